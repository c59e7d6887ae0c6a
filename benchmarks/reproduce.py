"""Makes the figures of RESULTS.md again, stage by stage, and sets old beside new.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py --file dataset.csv=PATH --file stream.csv=PATH --budget 1
    python benchmarks/reproduce.py --file dataset.csv=PATH --only approaches

Stages, their commands and the figures that are compared stand in reproduce.yaml. A stage that is
finished is not run again unless `--again` says so; one that was killed or interrupted is taken up
by the same command, and its own script goes on where it was if it can. A stage whose files are not
given is left out, and said to be. What the commands print goes to STAGE.log below --out, what is
known of each stage to state.json, and the comparison to reproduced.md. The exit code is 1 where a
command failed, or a figure is off by more than its own spread allows.
"""

import argparse
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from tagger.documents import Record
from tagger.environment import describe_environment
from tagger.errors import UserError, exit_on_user_error
from tagger.files import REPO_ROOT, only_process, sha256_of, write_json, write_text
from tagger.reporting.markdown import escape, markdown_table

STAGES = Path(__file__).with_suffix(".yaml")
GIVEN = ("dataset.csv", "lists.csv", "stream.csv", "RUN", "URL")
"""What commands name and this repository does not hold."""

Number = Annotated[float, Field(ge=0)]


class Row(Record):
    """A figure to compare; see the head of reproduce.yaml."""

    name: str
    old: str
    at: list[str | int] = Field(default_factory=list)
    pattern: str = ""
    sd: Number | None = None
    within: Number | None = None
    share: Number | None = None

    @model_validator(mode="after")
    def _check_place(self) -> "Row":
        if bool(self.at) == bool(self.pattern):
            raise ValueError("give either `at` or `pattern`")
        return self

    def recorded(self) -> tuple[float, float]:
        """Return the figure of RESULTS.md and half a unit of its last digit."""
        return read_figure(self.old)

    def tolerance(self) -> float:
        """Return how far a new figure may be from the old one."""
        old, rounding = self.recorded()
        spread = self.within or (self.share or 0.0) * abs(old)
        return rounding + (2 * math.sqrt(2) * self.sd if self.sd else spread)

    def find(self, output: Any, log: str) -> float:
        """Return the figure of an output or of what the commands printed.

        Raises:
            KeyError, IndexError, TypeError, ValueError: when it is not there.
        """
        if self.pattern:
            if (found := re.search(self.pattern, log)) is None:
                raise ValueError(f"nothing that was printed matches {self.pattern}")
            return read_figure(found[1])[0]
        for key in self.at:
            if isinstance(key, str) and key.endswith(".mean"):
                values = output[key.removesuffix(".mean")]
                output = sum(values) / len(values)
            else:
                output = output[key]
        return float(output)


def read_figure(text: str) -> tuple[float, float]:
    """Return the number that a text begins with, and half a unit of its last digit.

    Raises:
        ValueError: when it begins with none.
    """
    found = re.match(r"([-+]?\d[\d,]*(?:\.\d+)?)( ?%)?", text)
    if found is None:
        raise ValueError(f"{text!r} begins with no number")
    number, percent = found.groups()
    digits = len(number.partition(".")[2])
    scale = 100 if percent else 1
    return float(number.replace(",", "")) / scale, 0.5 * 10**-digits / scale


class Stage(Record):
    """What makes some sections of RESULTS.md."""

    sections: list[str]
    commands: list[str]
    hours: Number = 0
    output: Path | None = None
    rows: list[Row] = Field(default_factory=list)
    gone: str = ""

    @property
    def needs(self) -> list[str]:
        """Names of `GIVEN` in its commands."""
        words = {part for one in self.commands for part in re.split(r"[\s=\"']+", one)}
        return [name for name in GIVEN if name in words]


class Outcome(Record):
    """What is kept of a stage that was begun."""

    state: Literal["running", "finished", "failed"]
    began: str
    seconds: float = 0
    files: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Any]
    figures: list[float | None] = Field(default_factory=list)


def load_stages(path: Path = STAGES) -> dict[str, Stage]:
    """Read reproduce.yaml."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return {name: Stage.model_validate(stage) for name, stage in plain.items()}


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is to be run, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="show the stages and their state")
    parser.add_argument(
        "--only", action="append", default=[], metavar="STAGE", help="may be given again"
    )
    parser.add_argument("--again", action="store_true", help="run finished stages anew")
    parser.add_argument("--budget", type=float, default=math.inf, metavar="HOURS")
    parser.add_argument(
        "--file", action="append", default=[], metavar="NAME=PATH", help=f"of {', '.join(GIVEN)}"
    )
    parser.add_argument("--stages", type=Path, default=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/reproduce"))
    options = parser.parse_args(arguments)
    stages = load_stages(options.stages)
    if unknown := [name for name in options.only if name not in stages]:
        raise UserError("no such stages:", unknown, f"There are: {', '.join(stages)}")
    given = _given(options.file)
    if options.list:
        _print_stages(stages, read_state(options.out))
        return
    with only_process(options.out / "state.json", "reproducing into"):
        _run_stages(options, stages, given)
    state = read_state(options.out)
    text, off = compare(stages, state)
    write_text(options.out / "reproduced.md", text)
    print(options.out / "reproduced.md")
    if off or any(state[name].state == "failed" for name in stages if name in state):
        sys.exit(1)


def _given(entries: Sequence[str]) -> dict[str, str]:
    given = dict(entry.partition("=")[::2] for entry in entries)
    problems = [
        f"{name}: expected one of {', '.join(GIVEN)}" for name in given if name not in GIVEN
    ]
    problems += [
        f"{name}={path}: there is no such file"
        for name, path in given.items()
        if name != "URL" and name in GIVEN and not Path(path).exists()
    ]
    if problems:
        raise UserError("--file names what cannot be used:", problems)
    return given


def read_state(out: Path) -> dict[str, Outcome]:
    """Return what is known of each stage that was begun."""
    try:
        plain = json.loads((out / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: Outcome.model_validate(one) for name, one in plain.items()}


def _run_stages(
    options: argparse.Namespace, stages: Mapping[str, Stage], given: Mapping[str, str]
) -> None:
    state, begun = read_state(options.out), time.monotonic()
    for name, stage in stages.items():
        done = name in state and state[name].state == "finished"
        if (options.only and name not in options.only) or (done and not options.again):
            continue
        left = options.budget - (time.monotonic() - begun) / 3600
        lacking = [need for need in stage.needs if need not in given]
        if stage.gone or lacking or stage.hours > left:
            why = stage.gone or (f"--file {lacking[0]}=PATH is not given" if lacking else "budget")
            print(f"{name}: left out: {why}")
            continue
        print(f"{name}: about {stage.hours:g} h", flush=True)
        one = Outcome(
            state="running",  # as it stays if it is killed
            began=f"{datetime.now(UTC):%F %T}",
            files={
                need: sha256_of(path)
                for need in stage.needs
                if (path := Path(given[need])).is_file()
            },
            environment=describe_environment().model_dump(mode="json"),
        )
        _keep(options.out, state | {name: one})
        start = time.monotonic()
        log = options.out / f"{name}.log"
        succeeded = run_commands(stage, given, options.out, log)
        one = one.model_copy(
            update={
                "state": "finished" if succeeded else "failed",
                "seconds": time.monotonic() - start,
                "figures": _figures(stage, log) if succeeded else [],
            }
        )
        state[name] = one
        _keep(options.out, state)
        print(f"{name}: {one.state} after {one.seconds:,.0f} s", flush=True)


def _keep(out: Path, state: Mapping[str, Outcome]) -> None:
    write_json(
        out / "state.json", {name: one.model_dump(mode="json") for name, one in state.items()}
    )


def run_commands(stage: Stage, given: Mapping[str, str], out: Path, log: Path) -> bool:
    """Run the commands of a stage from the repository's root; stop at the first that fails.

    Files are linked to under the names that commands have for them, since some name their output
    by them.
    """
    folder = (out / "files").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for name in stage.needs:
        names[name] = given[name] if name == "URL" else str(Path(given[name]).absolute())
        if name.endswith(".csv"):
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(names[name])
            names[name] = str(link)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("w", encoding="utf-8") as file:
        for command in stage.commands:
            line = command
            for name, place in names.items():
                quoted = shlex.quote(place).replace("\\", r"\\")
                line = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w/.-])", quoted, line)
            print(f"$ {line}", file=file, flush=True)
            done = subprocess.run(
                ["bash", "-c", line], cwd=REPO_ROOT, env=os.environ | {"PATH": path},
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            if done.returncode:
                print(f"{command}\nended with exit code {done.returncode}; see {log}")
                return False
    return True


def _figures(stage: Stage, log: Path) -> list[float | None]:
    """Return what a stage's rows have become, None for those that are not found."""
    printed = log.read_text(encoding="utf-8", errors="replace")
    output = json.loads((REPO_ROOT / stage.output).read_text("utf-8")) if stage.output else None
    found: list[float | None] = []
    for row in stage.rows:
        try:
            found.append(row.find(output, printed))
        except (KeyError, IndexError, TypeError, ValueError):
            found.append(None)
    return found


def compare(stages: Mapping[str, Stage], state: Mapping[str, Outcome]) -> tuple[str, int]:
    """Return the comparison as Markdown, and how many figures are off or were not found."""
    off, lines = 0, ["# Reproduced", ""]
    for name, stage in stages.items():
        if (one := state.get(name)) is None:
            continue
        hardware, git = one.environment["hardware"], one.environment["git"]
        commit = "unknown" if git is None else git["revision"][:12]
        commit += " with changes" if git and git["changed_files"] else ""
        data = ", ".join(f"{file} {sha[:12]}" for file, sha in one.files.items())
        lines += [f"## {name}", "", f"{', '.join(map(escape, stage.sections))}: {one.state}.", ""]
        lines += ["```", *stage.commands, "```", ""]
        lines += [
            f"Began {one.began} UTC, took {one.seconds:,.0f} s; commit {commit}; "
            f"{hardware['cpu']}, {hardware['cores']} cores; sha256 of data: "
            f"{data or 'of the repository alone'}; seeds as in the commands, else 0, 1, 2.",
            "",
        ]
        rows = []
        for row, new in zip(stage.rows, one.figures, strict=False):
            (old, _), tolerance = row.recorded(), row.tolerance()
            # What lies in the very middle of two roundings is within both: 0.0115 of 0.012.
            within = new is not None and abs(new - old) <= tolerance + 1e-9
            off += not within
            shown = "not found" if new is None else f"{new:.4g}"
            rows.append(
                [
                    escape(row.name),
                    f"{old:.4g}",
                    shown,
                    f"{tolerance:.2g}",
                    "yes" if within else "**NO**",
                ]
            )
        if rows:
            lines += [
                *markdown_table(["figure", "old", "new", "may differ by", "within"], rows),
                "",
            ]
    return "\n".join(lines).rstrip() + "\n", off


def _print_stages(stages: Mapping[str, Stage], state: Mapping[str, Outcome]) -> None:
    rows = [
        [
            name,
            "-" if stage.gone else f"{stage.hours:g}",
            "gone" if stage.gone else state[name].state if name in state else "-",
            ", ".join(stage.needs),
            "; ".join(stage.sections),
        ]
        for name, stage in stages.items()
    ]
    print("\n".join(markdown_table(["stage", "hours", "state", "needs", "sections"], rows)))


if __name__ == "__main__":
    main()
