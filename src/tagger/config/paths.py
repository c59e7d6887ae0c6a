"""Makes the paths of saved configs portable, so that they name the same files elsewhere.

A path inside the repository is stored relative to the repository's root, with `repo:` before it,
every other one as an absolute path. A reader resolves it against the root of the repository that it
runs from. What is not there is looked for where it lies as seen from the run folder, so that a
project that was moved or copied as a whole is found too.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.files import IN_REPO, REPO_ROOT, expand_home, resolve_path, run_places

if TYPE_CHECKING:
    from tagger.run_meta import Place

FILES = (
    "data.path", "data.test_path", "data.more", "data.extra", "data.tags", "model.rules",
    "model.encoder", "model.vocabulary_from", "distill.transfer",
)  # fmt: skip
"""Keys that name files or folders, some of them only where there is one: an encoder, for one, may
be the hub's."""

PLACES = ("runs_dir", "sweeps_dir")
"""Keys that name where runs and sweeps lie."""

WORDS = ("random", "auto")
"""Values of these keys that name no file, whatever lies here."""

RUNS = ("model.runs", "distill.teachers", "search.enqueue")
"""Keys that name runs, by their folder or by a name below `runs_dir`."""


def portable_path(path: str | Path) -> str:
    """Return the form in which a path is stored; what does not exist stays as it is given."""
    found = resolve_path(path)
    if path in WORDS or not _exists(found):
        return str(path)
    absolute = Path(os.path.normpath(found.absolute()))
    if absolute.is_relative_to(REPO_ROOT):
        return IN_REPO + absolute.relative_to(REPO_ROOT).as_posix()
    return str(absolute)


def portable_place(path: str | Path) -> str:
    """Return the form in which the place of runs is stored, which needs no mark of where it is."""
    return portable_path(path).removeprefix(IN_REPO)


def portable_run(run: str, runs_dir: str) -> str:
    """Return the form in which a run's folder or name is stored."""
    for path in run_places(run, runs_dir):
        if _exists(path):
            return portable_place(path)
    return run


def with_portable_paths(values: Mapping[str, object]) -> dict[str, Any]:
    """Return a config's plain values with all paths in the form in which they are stored."""
    runs_dir = str(values.get("runs_dir", ""))
    changed = _change(values, RUNS, lambda run: portable_run(run, runs_dir))
    return _change(_change(changed, PLACES, portable_place), FILES, portable_path)


def with_paths_found(
    values: Mapping[str, object], folder: Path, made_in: "Place"
) -> dict[str, object]:
    """Return stored values with each path as it is found from here.

    Args:
        values: Plain values of a saved config.
        folder: The run folder that they were read from.
        made_in: What the run recorded of the place where it was made.
    """

    def find(stored: str) -> str:
        if stored in WORDS:
            return stored
        stored = stored.removeprefix(IN_REPO)
        path = REPO_ROOT / expand_home(stored)
        if _exists(path):
            return str(path)
        if made_in.folder is not None:
            meant = Path(made_in.repository or "") / expand_home(stored)
            beside = folder.resolve() / os.path.relpath(meant, made_in.folder)
            if meant.is_absolute() and _exists(beside):
                return os.path.normpath(beside)
        return stored

    return _change(values, (*FILES, *PLACES, *RUNS), find)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or one with a zero byte
        return False


def _change(
    values: Mapping[str, object], keys: tuple[str, ...], change: Callable[[str], str]
) -> dict[str, object]:
    """Return nested values with the texts under some dotted keys changed, in lists one by one."""
    changed = dict(values)
    for key in keys:
        head, _, rest = key.partition(".")
        value = changed.get(head)
        if rest and isinstance(value, Mapping):
            changed[head] = _change(value, (rest,), change)
        elif not rest and isinstance(value, str):
            changed[head] = change(value)
        elif not rest and isinstance(value, list):
            changed[head] = [change(one) if isinstance(one, str) else one for one in value]
    return changed
