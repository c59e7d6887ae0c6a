"""Writes files atomically, locks them, and resolves paths of configs and runs."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / "carried").is_dir()
"""Whether this is a wheel, which carries its own copies of configs/ and of lists of data/."""

REPO_ROOT = _PACKAGE / "carried" if INSTALLED else _PACKAGE.parents[1]
"""The repository's root; of a wheel, the folder of these copies."""

IN_REPO = "repo:"
"""Before a path: it is in this repository, whatever lies where a command is given."""


def resolve_path(path: str | Path) -> Path:
    """Find a path given in a config: as it stands, else relative to the repository's root."""
    if str(path).startswith(IN_REPO):
        return REPO_ROOT / str(path).removeprefix(IN_REPO)
    path = expand_home(path)
    if path.is_absolute() or path.exists():
        return path
    from_root = REPO_ROOT / path
    return from_root if from_root.exists() else path


def run_places(run: str, runs_dir: str) -> list[Path]:
    """Return the folders that a run may be meant by: a path, or a name below `runs_dir`.

    Both are taken as they stand, else relative to the repository's root.
    """
    places = [expand_home(run), expand_home(runs_dir) / run]
    return [*places, *(REPO_ROOT / place for place in places if not place.is_absolute())]


def expand_home(path: str | Path) -> Path:
    """Replace a leading `~`; where there is no such home the path stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def cache_folder() -> Path:
    """Return the folder of what is fetched or joined once: $TAGGER_CACHE, or ~/.cache/tagger."""
    return Path(os.environ.get("TAGGER_CACHE") or Path.home() / ".cache" / "tagger")


def plain_name(path: Path) -> str:
    """Return a file's name without its endings, in letters that the name of a folder may have."""
    stem = path.name.partition(".")[0] or path.name
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:40].lstrip("._-") or "data"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it over `path` once all went well.

    A reader therefore sees the old file or the new one, never half of one. On an error the
    temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept at the end, because writers such as matplotlib choose a format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another; on Windows, wait a little for those who read the other."""
    for seconds in (0.05, 0.1, 0.2, 0.4, 0.8) if sys.platform == "win32" else ():
        try:
            source.replace(target)
            return
        except PermissionError:  # it is open in another process, which elsewhere would not matter
            time.sleep(seconds)
    source.replace(target)


@contextmanager
def only_process(path: Path, doing: str) -> Iterator[None]:
    """Keep other processes from making the same file or folder at the same time.

    Args:
        path: What is made.
        doing: What the other process would be doing to it, such as `writing`.

    Raises:
        UserError: when another process is at it.
    """
    # Imported here: it brings asyncio with it, which readers of files need not wait for.
    from filelock import FileLock, Timeout

    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is {doing} {path}") from None
    try:
        yield
    finally:
        remove_lock(lock)
        remove_empty(made)


def remove_lock(lock: "FileLock") -> None:
    """Release a lock that is held, and remove its file."""
    file = Path(lock.lock_file)
    # Unlinked while it is held: afterwards the file might be another process's lock.
    try:
        file.unlink(missing_ok=True)
    except PermissionError:  # Windows keeps what is open, and hence another process's lock too
        lock.release()
        with suppress(PermissionError):
            file.unlink(missing_ok=True)
    lock.release()


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing, inner ones given first; the first that does ends it."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def check_writable(folder: Path) -> None:
    """Try whether files can be made in a folder, or it itself where it is not there yet.

    Raises:
        OSError: when not.
    """
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    with tempfile.TemporaryFile(dir=place):
        pass


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV with plain line ends, which a strict reader reads back unchanged.

    Python's writer leaves a lone carriage return unquoted if lines end in \n, and its own reader
    then fails on it. With lines that end in \r\n it is quoted.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    lines = []
    for row in rows:
        writer.writerow(row)
        lines.append(buffer.getvalue().removesuffix("\r\n") + "\n")
        buffer.seek(0)
        buffer.truncate()
    return "".join(lines)


def folder_mib(folder: Path) -> float:
    """Return the size of all files below a folder, in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
