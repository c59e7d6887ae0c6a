"""Writes what `tagger doctor` found as a text that a person reads, or pastes into an issue."""

from collections.abc import Iterable

from tagger.doctor import ABSENT, Diagnosis
from tagger.environment import NOT_INSTALLED
from tagger.reporting.numbers import milliseconds


def describe(diagnosis: Diagnosis) -> str:
    """Return a list that is Markdown and plain text, one line a finding."""
    return "\n".join(f"- {what}: {said}" for what, said in _lines(diagnosis))


def _lines(found: Diagnosis) -> Iterable[tuple[str, str]]:
    git, machine = found.git, found.hardware
    revision = "" if git is None else f", revision {git.revision[:12]}"
    changed = ", changed" if git is not None and git.changed_files else ""
    yield "tagger", found.versions["tagger"] + revision + changed
    yield "python", f"{found.versions['python']}, {machine.system}"
    yield (
        "libraries",
        ", ".join(
            f"{name} {version}"
            for name, version in found.versions.items()
            if name not in ("tagger", "python") and version != NOT_INSTALLED
        ),
    )
    yield "processor", f"{machine.cpu}: {', '.join(found.instructions)}"
    yield (
        "threads",
        ", ".join(
            [
                f"{found.threads} of {machine.cores} cores",
                *(f"{name}={value}" for name, value in found.settings.items()),
            ]
        ),
    )
    yield "gpu", machine.gpu or "none"
    yield "memory", f"{machine.memory_gib} GiB; {found.disk_free_gib} GiB of disk are free here"
    for name, said in found.caches.items():
        yield f"cache of {name}", said
    for name, part in found.parts.items():
        told = f"lacks {', '.join(part.lacks)}: {part.get}" if part.lacks else "there"
        yield f"part {name}", told
    for name, encoder in found.encoders.items():
        told = f", sha256 {encoder.sha256[:12]}"
        if encoder.state == ABSENT:
            told = f": see {encoder.config}"
        yield f"encoder {name}", encoder.state + told
    if (smoke := found.smoke) is not None:
        times = map(milliseconds, (smoke.load_ms, smoke.first_ms, smoke.median_ms))
        yield (
            f"prediction by {smoke.model}",
            "loaded in {} ms, first text {} ms, then {} ms in the median".format(*times),
        )
    for problem in found.problems:
        yield "PROBLEM", f"{problem.what}: {problem.mend}"
    if not found.problems:
        yield "result", "all that is needed is there"
