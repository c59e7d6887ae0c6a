"""Behavioural tests of a run: cases that it must pass, whatever its scores are.

Three kinds of cases (Ribeiro et al., "Beyond Accuracy", ACL 2020): `minimum`, an item whose tag is
beyond doubt; `invariance`, a change that must not change the tag; `direction`, a change after which
a tag must be more probable, or less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tagger.data.items import Item
from tagger.data.tags import StrictLoader
from tagger.decision.decider import Decider
from tagger.decision.policies import has_answer
from tagger.errors import UserError, describe_os_error
from tagger.evaluation.intervals import measure_share
from tagger.evaluation.report import (
    BehaviourFailure,
    BehaviourReport,
    CapabilityResult,
    CasesFile,
    PassRate,
)
from tagger.files import sha256_of
from tagger.scores import FloatArray

SATURATED = 0.95
"""A probability that is this near its end need not move on."""

Text = Annotated[str, Field(max_length=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Change(_Strict):
    """The fields of a text that a case changes; the others stay."""

    title: Text | None = None
    description: Text | None = None


class Case(_Strict):
    """A text, its right tag, and what the text is changed to.

    Attributes:
        title: Of the item.
        description: Of the item.
        tag: The right tag; of a direction, the tag whose probability moves.
        changed: What changes, for invariance and direction.
        moves: Where the probability must move to, for direction.
    """

    title: Text = ""
    description: Text = ""
    tag: str
    changed: Change | None = None
    moves: Literal["up", "down"] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Case":
        if not (self.title.strip() or self.description.strip()):
            raise ValueError("neither title nor description: there is nothing to tag")
        if self.changed is not None and self.after == self.before:
            raise ValueError("`changed` changes nothing")
        return self

    @property
    def before(self) -> Item:
        """The item as it is."""
        return Item("", self.title.strip(), self.description.strip())

    @property
    def after(self) -> Item:
        """The item after the change."""
        change = self.changed or Change()
        title = self.title if change.title is None else change.title
        description = self.description if change.description is None else change.description
        return Item("", title.strip(), description.strip())


class Capability(_Strict):
    """Something that a model must be able to do, with the cases that test it.

    Attributes:
        kind: Of its cases: a minimum, an invariance or a direction.
        about: What the model must do, in a sentence.
        cases: At least one.
    """

    kind: Literal["minimum", "invariance", "direction"]
    about: str = Field(min_length=1)
    cases: list[Case] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Capability":
        for number, case in enumerate(self.cases, start=1):
            needs = {"changed": self.kind != "minimum", "moves": self.kind == "direction"}
            for key, needed in needs.items():
                if needed != (getattr(case, key) is not None):
                    verb = "needs" if needed else "has no use for"
                    raise ValueError(f"case {number}: kind {self.kind} {verb} `{key}`")
        return self


@dataclass(frozen=True)
class Suite:
    """Capabilities by name, and the file that they come from."""

    path: Path
    capabilities: Mapping[str, Capability]

    def unknown_tags(self, tags: Sequence[str]) -> list[str]:
        """Return the tags that the cases are about and that a run does not know."""
        used = {case.tag for one in self.capabilities.values() for case in one.cases}
        return sorted(used - set(tags))


def load_suite(path: Path) -> Suite:
    """Read a file of behaviour cases; data/behaviour.yaml shows the form.

    Raises:
        UserError: listing everything that is wrong with it.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), StrictLoader)
        capabilities = TypeAdapter(dict[str, Capability]).validate_python(content)
    except OSError as error:
        raise UserError(f"the behaviour cases {path}: {describe_os_error(error)}") from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise UserError(
            f"{path} holds no behaviour cases:", problems, "data/behaviour.yaml shows the form."
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not yaml:", [" ".join(str(error).split())]) from None
    if not capabilities:
        raise UserError(f"{path} holds no behaviour cases")
    return Suite(path, capabilities)


def check_behaviour(decider: Decider, suite: Suite) -> BehaviourReport:
    """Try every case."""
    pairs = [(name, case) for name, one in suite.capabilities.items() for case in one.cases]
    before = decider.decide([case.before for _, case in pairs])
    after = decider.decide([case.after for _, case in pairs])
    answered = has_answer(before.raw) & has_answer(after.raw)
    failures: dict[str, list[BehaviourFailure]] = {name: [] for name in suite.capabilities}
    for row, (name, case) in enumerate(pairs):
        failure = _try(case, before.probabilities[row], after.probabilities[row], decider.tags)
        if case.moves is None and not answered[row]:
            failure = ("an answer", "none")
        if failure is not None:
            text = {"title": case.after.title, "description": case.after.description}
            expected, found = failure
            failures[name].append(BehaviourFailure(**text, expected=expected, found=found))

    def rate(failed: int, total: int) -> PassRate:
        passed = total - failed
        return PassRate(num_cases=total, passed=passed, rate=measure_share(passed, total))

    return BehaviourReport(
        cases=CasesFile(path=str(suite.path), sha256=sha256_of(suite.path)),
        capabilities={
            name: CapabilityResult(
                kind=one.kind,
                about=one.about,
                failures=failures[name],
                **dict(rate(len(failures[name]), len(one.cases))),
            )
            for name, one in suite.capabilities.items()
        },
        **dict(rate(sum(map(len, failures.values())), len(pairs))),
    )


def _try(
    case: Case, before: FloatArray, after: FloatArray, tags: Sequence[str]
) -> tuple[str, str] | None:
    """Return what a case expects and what was found; None if it passed.

    Args:
        case: The case.
        before: Probabilities of its text, (n_tags,).
        after: Probabilities of what the text is changed to, (n_tags,).
        tags: Names of the tags.
    """
    was, now = tags[int(before.argmax())], tags[int(after.argmax())]
    if case.moves is not None:
        place = tags.index(case.tag)
        old, new = float(before[place]), float(after[place])
        up, down = new > old or new >= SATURATED, new < old or new <= 1 - SATURATED
        passed = up if case.moves == "up" else down
        expected, found = f"{case.tag} {case.moves}", f"from {old:.3f} to {new:.3f}"
    elif case.changed is not None:
        passed, expected, found = was == now, f"{was}, as before", now
    else:
        passed, expected, found = was == case.tag, case.tag, was
    return None if passed else (expected, found)
