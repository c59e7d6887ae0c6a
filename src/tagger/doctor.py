"""Examines what this installation can do on this machine (`tagger doctor`).

What it returns is made to be pasted into an issue: paths below the user's home begin with `~`, and
of environment variables it holds only those of `SETTINGS`, none of which is a secret.
"""

import os
import platform
import shutil
import statistics
import time
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from packaging.requirements import Requirement

from tagger.documents import Record
from tagger.environment import (
    LIBRARIES,
    NOT_INSTALLED,
    PASSWORD,
    Hardware,
    Revision,
    git_revision,
    hardware,
    instruction_sets,
    library_version,
)
from tagger.errors import UserError
from tagger.files import INSTALLED, REPO_ROOT, cache_folder, folder_mib, resolve_path, sha256_of
from tagger.threads import usable_threads

if TYPE_CHECKING:
    from tagger.data.items import Item

DISTRIBUTION = "tag-or-ask"
ANSWERING = "answering"
TRAINING = "train"
PINNED = {"service": "-service", "postgres": "-service", "ray": "-ray", "track": "-track"}
"""Parts that another file than requirements.txt pins, and the end of its name."""

ENCODER = "minilm"
"""The default model."""

MODELS = REPO_ROOT / "configs" / "model"
VERIFIED, CHANGED, ABSENT = "verified", "changed", "not here"

SETTINGS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE",
)  # fmt: skip
"""Environment variables that change speed or results."""

TITLE, DESCRIPTION = "Counting cars with YOLO", "Detection of vehicles from traffic cameras."
REPEATS = 20


class Part(Record):
    """A part of the project.

    Attributes:
        needed: Whether it has to be there.
        lacks: Packages that are missing or of another version than is asked for.
        get: The command that brings them.
    """

    needed: bool
    lacks: list[str]
    get: str


class EncoderFile(Record):
    """Weights of a pretrained encoder.

    Attributes:
        state: `verified`, `changed` or `not here`.
        sha256: What their hash has to be.
        config: File that names the encoder, and says how to get it.
    """

    state: str
    sha256: str
    config: str


class Smoke(Record):
    """A prediction that was made: by what, and the milliseconds that it took.

    Attributes:
        model: What predicted.
        load_ms: Time from files to a model, with the imports of what it needs.
        first_ms: Time of the first text.
        median_ms: Median time of the same text, of 20 times.
    """

    model: str
    load_ms: float
    first_ms: float
    median_ms: float


class Problem(Record):
    """Something needed that is not there, and how to mend it."""

    what: str
    mend: str


class Diagnosis(Record):
    """What an installation has; `problems` is empty where all that is needed is there."""

    git: Revision | None
    versions: dict[str, str]
    hardware: Hardware
    instructions: list[str]
    threads: int
    settings: dict[str, str]
    disk_free_gib: float
    caches: dict[str, str]
    parts: dict[str, Part]
    encoders: dict[str, EncoderFile]
    smoke: Smoke | None
    problems: list[Problem]


def diagnose(run: str | None = None, runs_dir: str = "runs") -> Diagnosis:
    """Examine versions, machine, caches, parts and encoders, and predict something.

    Args:
        run: The run that predicts, as `tagger.runs.find_run` finds it; by default the encoder of
            the default model under a fresh head does, or the rules where there is no torch.
        runs_dir: Folder in which a run is looked up by its name.
    """
    parts, encoders = find_parts(), find_encoders()
    problems = [
        Problem(what=f"{name} lacks {', '.join(part.lacks)}", mend=part.get)
        for name, part in parts.items()
        if part.needed and part.lacks
    ]
    problems += [
        Problem(
            what=f"the weights of {name} are not those that were published",
            mend=f"install them again, from where {encoder.config} says",
        )
        for name, encoder in encoders.items()
        if encoder.state == CHANGED
    ]
    smoke = None
    if not problems:
        try:
            smoke = predict_something(run, runs_dir)
        except Exception as error:  # whatever is broken, the rest of the diagnosis is of use
            lines = str(error).splitlines() or [type(error).__name__]
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            mend = "; ".join(lines[1:]) or "make the environment anew, or tell us with this text"
            problems.append(
                Problem(what=f"the prediction failed: {kind}{_plain(lines[0])}", mend=_plain(mend))
            )
    return Diagnosis(
        git=git_revision(),
        versions={"python": platform.python_version()}
        | {name: library_version(name) for name in LIBRARIES},
        hardware=hardware(),
        instructions=instruction_sets(),
        threads=usable_threads(),
        settings={name: os.environ[name] for name in SETTINGS if name in os.environ},
        disk_free_gib=round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        caches=describe_caches(),
        parts=parts,
        encoders=encoders,
        smoke=smoke,
        problems=problems,
    )


def find_parts() -> dict[str, Part]:
    """Return each part of the project with the packages that it lacks, or has too old.

    A checkout is there to train with; of a wheel only answering is needed.
    """
    found = {}
    for name, wanted in _requirements().items():
        file = f"requirements{PINNED.get(name, '')}.txt"
        brought = DISTRIBUTION if name == ANSWERING else f"{DISTRIBUTION}[{name}]"
        found[name] = Part(
            needed=name == ANSWERING or (name == TRAINING and not INSTALLED),
            lacks=[said for one in wanted if (said := _lack(one))],
            get=f"pip install '{brought}'"
            if INSTALLED
            else f"pip install -r {file} -c constraints.txt",
        )
    return found


def find_encoders() -> dict[str, EncoderFile]:
    """Return the encoders whose hash a config of models pins, without fetching any."""
    found: dict[str, EncoderFile] = {}
    for config in sorted(MODELS.glob("*.yaml")):
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        name, expected = values.get("encoder"), values.get("sha256")
        if not expected or name in found:
            continue
        weights = _weights(name)
        state = ABSENT
        if weights is not None and weights.is_file():
            state = VERIFIED if sha256_of(weights) == expected else CHANGED
        found[name] = EncoderFile(
            state=state, sha256=expected, config=f"configs/model/{config.name}"
        )
    return found


def describe_caches() -> dict[str, str]:
    """Say where the caches of this project and of the Hugging Face hub are, and of what size."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = {"tagger": cache_folder(), "the hub": Path(HF_HUB_CACHE)}
    return {
        name: _plain(str(folder))
        + (f", {folder_mib(folder):,.0f} MiB" if folder.is_dir() else ", not there")
        for name, folder in folders.items()
    }


def predict_something(run: str | None, runs_dir: str) -> Smoke:
    """Load a model, let it predict one text again and again, and time both.

    Raises:
        UserError: when there is no such run, or it cannot be loaded.
    """
    from tagger.data.items import Item

    item = Item("1", TITLE, DESCRIPTION)
    begun = time.perf_counter()
    name, predict = _model(run, runs_dir)
    loaded = time.perf_counter()
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        predict([item])
        times.append(1000 * (time.perf_counter() - start))
    return Smoke(
        model=name,
        load_ms=1000 * (loaded - begun),
        first_ms=times[0],
        median_ms=statistics.median(times[1:]),
    )


def _model(run: str | None, runs_dir: str) -> tuple[str, Callable[[list["Item"]], object]]:
    from tagger.data.tags import load_tags

    if run is not None:
        from tagger.decision.decider import load_decider
        from tagger.runs import open_run

        opened = open_run(run, runs_dir)
        return opened.name, load_decider(opened.path, opened.load_classifier()).decide
    # Read as they stand: composing them takes longer than all else that is done here but torch.
    from tagger.config.schema import RulesConfig, TransformerConfig

    name = ENCODER if find_spec("torch") else "rules"
    values = yaml.safe_load((MODELS / f"{name}.yaml").read_text(encoding="utf-8"))
    tags = [tag.name for tag in load_tags(REPO_ROOT / "data" / "tags.yaml")]
    if name == ENCODER:
        from tagger.models.transformer import TransformerClassifier

        config = TransformerConfig.model_validate(values)
        return name, TransformerClassifier.build(config, tags).predict_proba
    from tagger.models.rules import RulesClassifier

    rules = resolve_path(RulesConfig.model_validate(values).rules)
    return name, RulesClassifier.read(rules, tags).predict_proba


def _requirements() -> dict[str, list[Requirement]]:
    """Return what each part asks for; a checkout may be newer than what was installed of it."""
    if INSTALLED:
        asked = [*map(Requirement, metadata.requires(DISTRIBUTION) or ())]
        base = _applying(asked, "")
        extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()
        found = {one: [r for r in _applying(asked, one) if r not in base] for one in extras}
        return {ANSWERING: base} | {name: wanted for name, wanted in found.items() if wanted}
    project = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = {ANSWERING: project["dependencies"], **project["optional-dependencies"]}
    return {name: _applying(map(Requirement, one), name) for name, one in lines.items() if one}


def _applying(asked: Iterable[Requirement], extra: str) -> list[Requirement]:
    """Return the requirements of an extra, on this system and with this Python."""
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]


def _lack(wanted: Requirement) -> str:
    """Say what of a requirement is not there; "" where it is met."""
    version = library_version(wanted.name)
    if version == NOT_INSTALLED:
        return wanted.name
    met = wanted.specifier.contains(version, prereleases=True)
    return "" if met else f"{wanted.name}{wanted.specifier} (found {version})"


def _weights(encoder: str) -> Path | None:
    """Return where an encoder's weights are, or would be once its pieces are joined."""
    kind, _, name = encoder.partition(":")
    if kind == "pieces":
        return cache_folder() / "encoders" / name / "model.safetensors"
    if kind != "package" or (spec := find_spec(name)) is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model" / "model.safetensors"


def _plain(text: str) -> str:
    """Return a text without the path of the user's home, and without passwords of addresses."""
    return PASSWORD.sub(r"\1***@", text).replace(str(Path.home()), "~")
