"""Measurements that README.md and docs/ quote stand in benchmarks/RESULTS.md with the same value.

A quotation is a score (`0.925`), a percentage, a time in milliseconds or a rate (`357/s`, `4,100
items a second`) outside of code, where figures are settings. It is found again if RESULTS.md has
its value, rounded as it is, in a sentence or a row of a table about the same: one that shares
enough of its rarer words. With RESULTS.md's some 3,000 figures a wrong one may find a namesake: of
figures of README.md and docs/ that were changed by 2 to 30 % one in three was noticed where there
are two or three digits, and two in three where there are four.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

PAGES = [REPO_ROOT / "README.md", *sorted((REPO_ROOT / "docs").rglob("*.md"))]
PRIMARY = ("experiment-log.md", "run-folder.md")
"""Pages that record figures of their own, or are written from docstrings."""

NO_MEASUREMENT = {
    "`max_slice`": "a limit of the gate",
    "far below 100 ms": "what is asked for",
}
"""Words of a sentence or row whose figures are no measurements, and what they are."""

ALIKE = 3.0
"""Least sum, over the words that two passages share, of -log(share of passages that have it)."""

FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`]*`")
QUOTED = re.compile(
    r"(?<![\w.,/-])(?:(?P<score>0\.\d{2,4})(?![\d%]| ?(?:%|ms|s\b|MiB))"
    r"|(?P<value>\d[\d,]*(?:\.\d+)?)(?= ?(?P<unit>%|ms\b|/s\b|(?:items|rows|requests) a second)))"
)
RECORDED = re.compile(r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)(?!\d)")
UNITS = {"%": r"%", "ms": r"\bms\b", "rate": r"/s\b|a second"}


@dataclass(frozen=True)
class Passage:
    """A sentence or a row of a table, and all words around it: of heading, header, paragraph."""

    text: str
    words: frozenset[str]
    around: str

    @classmethod
    def of(cls, text: str, *around: str) -> "Passage":
        whole = " ".join([text, *around])
        found = re.findall(r"[a-z][a-z0-9-]{2,}|\d+,\d{3}\b", whole.lower())
        return cls(text, frozenset(word.rstrip("s") for word in found), whole)


@dataclass(frozen=True)
class Figure:
    """A number as it is written: its digits after the point, and its unit ("" for a score)."""

    value: float
    digits: int
    unit: str

    @classmethod
    def of(cls, text: str, unit: str = "") -> "Figure":
        text = text.rstrip(",").replace(",", "")
        return cls(float(text), len(text.partition(".")[2]), unit)

    def is_rounded(self, other: "Figure", passage: Passage) -> bool:
        """Whether a figure of RESULTS.md, with the passage that it stands in, may be this one."""
        near = 0.5 * 10**-self.digits + 1e-9
        if self.unit == "%" and other.digits >= self.digits + 2:  # a share
            return abs(other.value - self.value / 100) <= near / 100
        if self.unit == "rate" and self.value >= 1000:
            near = 50
        if abs(other.value - self.value) > near or other.digits < self.digits:
            return False
        return not self.unit or re.search(UNITS[self.unit], passage.around) is not None


def passages(text: str) -> Iterator[Passage]:
    """Yield the rows of tables and the sentences of a page."""
    text = FENCED.sub("", re.sub(r"\]\([^)]*\)", "]", text))
    heading = ""
    for block in re.split(r"\n\s*\n|\n(?=#)|(?<=\n)(?=\s*[-*] )", text):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("#"):
            heading = lines.pop(0)
        if lines and lines[0].startswith("|"):
            yield from (Passage.of(row, lines[0], heading) for row in lines[2:])
            continue
        if not (paragraph := " ".join(line.strip() for line in lines)):
            continue
        for sentence in re.split(r"(?<=[.;:])\s+(?=[A-Z*\"(\d`])", paragraph):
            yield Passage.of(sentence, paragraph, heading)


def quoted(passage: Passage) -> Iterator[Figure]:
    """Yield what a passage claims to have been measured."""
    if any(words in passage.text for words in NO_MEASUREMENT):
        return
    for found in QUOTED.finditer(CODE.sub(lambda code: " " * len(code[0]), passage.text)):
        unit = found["unit"] or ""
        yield Figure.of(
            found["score"] or found["value"], unit if unit in ("", "%", "ms") else "rate"
        )


class Record:
    """The figures of RESULTS.md."""

    def __init__(self, text: str) -> None:
        self.passages = list(passages(text))
        self.figures = [
            (Figure.of(found), one)
            for one in self.passages
            for found in RECORDED.findall(CODE.sub(" ", one.text))
        ]
        counts = Counter(word for one in self.passages for word in one.words)
        self.weights = {
            word: -math.log(count / len(self.passages)) for word, count in counts.items()
        }

    def has(self, figure: Figure, passage: Passage) -> bool:
        """Whether the value stands where the same is spoken of."""
        return any(
            figure.is_rounded(other, there) and self.likeness(passage, there) >= ALIKE
            for other, there in self.figures
        )

    def likeness(self, one: Passage, other: Passage) -> float:
        """Weigh the words that two passages share."""
        return sum(self.weights[word] for word in one.words & other.words)


@cache
def record() -> Record:
    return Record((REPO_ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))


def missing(text: str, results: Record) -> list[str]:
    """Return each quotation of a page that is not found again, with its sentence."""
    return [
        f"{figure.value:.{figure.digits}f} {figure.unit}: {passage.text}"
        for passage in passages(text)
        for figure in quoted(passage)
        if not results.has(figure, passage)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO_ROOT)))
def test_what_is_quoted_was_recorded(page: Path) -> None:
    if page.name in PRIMARY:
        return
    lost = missing(page.read_text(encoding="utf-8"), record())
    assert not lost, (
        "benchmarks/RESULTS.md has no such value in a row or sentence about the same; correct it, "
        "record it, name things as there, or add a line to NO_MEASUREMENT"
    )


RESULTS = """
## Approaches

| approach | weighted F1 | published | p50 ms | items/s |
|---|---|---|---|---|
| linear | 0.8904 (0.0047) | 0.133 | 1.4 | 7,112 |
| frozen | 0.9197 (0.0058) | 0.534 | 9.0 | 241 |

The ensemble publishes 79 % of the rows. One takes `0.777` seconds.
"""


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("| approach | F1 |\n|---|---|\n| linear | 0.890 |", []),
        ("| approach | F1 |\n|---|---|\n| linear | 0.891 |", ["0.891"]),
        ("| approach | F1 |\n|---|---|\n| linear | 0.920 |", ["0.920"]),  # that of another row
        ("| approach | F1 |\n|---|---|\n| frozen | 53 % |", []),
        ("| approach | F1 |\n|---|---|\n| frozen | 52 % |", ["52"]),
        ("The frozen encoder takes 9 ms.", []),
        ("The frozen encoder takes 8 ms.", ["8"]),
        ("Words (linear) make 7,100 items a second.", []),
        ("Words (linear) make 7,200 items a second.", ["7200"]),
        ("An ensemble publishes 79 %, an ensemble of 0.777.", ["0.777"]),
        ("Set `ensemble=0.12`, with 3 rows and 4 files.", []),
        ("```\nlinear 0.123\n```", []),
    ],
)  # fmt: skip
def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch, text: str, lost: list[str]) -> None:
    monkeypatch.setattr(f"{__name__}.ALIKE", 0.8)  # of a page this small no word is rare

    found = missing(text, Record(RESULTS))

    assert [one.split(" ")[0] for one in found] == lost
