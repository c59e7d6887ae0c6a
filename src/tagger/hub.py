"""Publishes runs on the Hugging Face hub, and fetches them from there.

A repository has the model's files at its root, where sentence-transformers, optimum and
transformers.js look for them, the other files of the run in `run/`, and its card as README.md.
Nothing is imported from huggingface_hub before it is asked for. It goes by its own settings, such
as HF_TOKEN and HF_ENDPOINT.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tagger.errors import UserError, first_line
from tagger.files import cache_folder
from tagger.run_meta import RunMeta, changed_files

if TYPE_CHECKING:
    from tagger.runs import RunFolder

ON_HUB = "hf:"
"""Before the name of a repository: `hf:ORG/NAME@REVISION`."""

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
REST = "run"
"""Folder of a repository that holds what a run has beside its model."""

META = "meta.json"
CARD = "README.md"
PUBLISHED = (
    META, "config.yaml", "splits.csv", "metrics.jsonl", "calibration.csv", "decision.json",
    "ood.safetensors", "predictions.csv", "parity.json",
)  # fmt: skip
"""Files beside the model that are uploaded. Reports are not: they quote items, of any number."""

KEPT = (".gitattributes",)
"""Files of a repository that are not ours to remove."""


def files_to_push(run: "RunFolder") -> dict[str, Path]:
    """Return the files of a run that are uploaded, by their path in the repository.

    Raises:
        UserError: when the model is not the one that was recorded.
    """
    run.check_model()
    paths = {name: run.path / name for name in PUBLISHED}
    rest = {f"{REST}/{name}": path for name, path in paths.items() if path.exists()}
    return {name: run.path / "model" / name for name in run.meta.model_files} | rest


def push_run(repository: str, files: Mapping[str, Path], card: str, *, private: bool) -> str:
    """Upload a run in one commit; what the repository had before and it has not is removed.

    Args:
        repository: ORG/NAME; made if need be.
        files: As `files_to_push` returns them.
        card: Content of README.md.
        private: Whether a repository that is made is shown to its owners alone.

    Returns:
        The name that the run has from now on: `hf:ORG/NAME@COMMIT`.

    Raises:
        UserError: when the hub refuses it, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    with _explained(f"{repository} could not be uploaded"):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        old = set(api.list_repo_files(repository)) - {*files, CARD, *KEPT}
        done = api.create_commit(
            repository,
            [
                CommitOperationAdd(CARD, card.encode()),
                *(CommitOperationAdd(name, file) for name, file in files.items()),
                *(CommitOperationDelete(name) for name in sorted(old)),
            ],
            commit_message="A run of tagger",
        )
    return f"{ON_HUB}{repository}@{done.oid}"


def check_repository(name: str) -> None:
    """Refuse what is no name of a repository."""
    if not REPOSITORY.fullmatch(name):
        raise UserError(f"{name!r} is no repository of the hub", hint="It is written ORG/NAME.")


def fetch_run(name: str) -> Path:
    """Return the folder of a run on the hub, fetched into the cache where it is not there yet.

    Args:
        name: `hf:ORG/NAME`, or `hf:ORG/NAME@REVISION`: a commit, a tag or a branch.

    Raises:
        UserError: when it cannot be fetched, is no run, or its files are not those it recorded.
    """
    repository, _, revision = name.removeprefix(ON_HUB).partition("@")
    check_repository(repository)
    from huggingface_hub import hf_hub_download, snapshot_download

    with _explained(f"{name} could not be fetched"):
        found = hf_hub_download(repository, f"{REST}/{META}", revision=revision or None)
        commit = Path(found).parents[1].name
        owner, _, own = repository.partition("/")
        folder = cache_folder() / "hub" / owner / commit / own
        if (folder / META).is_file():
            return folder
        meta = RunMeta.read(Path(found))
        if outside := [one for one in meta.model_files if not _is_below(one)]:
            raise UserError(f"{name} is refused: it names files outside of its folder:", outside)
        wanted = [*meta.model_files, f"{REST}/*"]
        snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=wanted))
    if problems := changed_files(meta, snapshot):
        raise UserError(f"{name}: the model is damaged or was changed:", problems)
    scratch = folder.with_name(f".{own}.{os.getpid()}")
    try:
        shutil.copytree(snapshot / REST, scratch)
        for one in meta.model_files:
            (scratch / "model" / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot / one, scratch / "model" / one)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / META).is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into one message."""
    from httpx2 import HTTPError

    try:
        yield
    except (OSError, ValueError, HTTPError) as error:
        raise UserError(
            f"{what}: {first_line(error)}",
            hint="It takes a network, a repository of that name, and for what is private or yours "
            "to write a token (HF_TOKEN, or `hf auth login`).",
        ) from None
