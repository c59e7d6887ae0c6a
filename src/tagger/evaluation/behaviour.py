"""What a run can do, case by case, whatever its scores are.

Three kinds of cases (Ribeiro et al., "Beyond Accuracy", ACL 2020): `minimum`, an item whose tag is
beyond doubt; `invariance`, a change that must not change the tag; `direction`, a change after which
a tag must be more probable, or less.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tagger.data.items import Item
from tagger.data.tags import StrictLoader
from tagger.decision.decider import Decider
from tagger.decision.policies import has_answer
from tagger.errors import UserError, describe_os_error
from tagger.evaluation.intervals import measure_share
from tagger.files import sha256_of

SATURATED = 0.95
"""A probability that is this near its end need not move on."""

Text = Annotated[str, Field(max_length=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Change(_Strict):
    """The fields of a text that change; the others stay."""

    title: Text | None = None
    description: Text | None = None


class Case(_Strict):
    """One text, and what it is changed to.

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
    """Something that a model must be able to do.

    Attributes:
        kind: What its cases are.
        about: It in a sentence.
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


def check_behaviour(decider: Decider, suite: Suite) -> dict[str, Any]:
    """Try every case.

    Returns:
        Ready for JSON: `cases` (the file and its hash), `num_cases`, `passed`, `rate` (a score);
        and `capabilities`, by name `kind`, `about`, `num_cases`, `passed`, `rate` and `failures`.
    """
    cases = [case for one in suite.capabilities.values() for case in one.cases]
    before = decider.decide([case.before for case in cases])
    after = decider.decide([case.after for case in cases])
    answered = has_answer(before.raw), has_answer(after.raw)
    results = defaultdict(list)
    number = 0
    for name, capability in suite.capabilities.items():
        for case in capability.cases:
            rows = before.probabilities[number], after.probabilities[number]
            failure = _try(case, *rows, decider.tags)
            if case.moves is None and not (answered[0][number] and answered[1][number]):
                failure = _failure(case, "an answer", "none")
            results[name].append(failure)
            number += 1
    capabilities = {}
    for name, capability in suite.capabilities.items():
        failures = [one for one in results[name] if one is not None]
        passed = len(capability.cases) - len(failures)
        capabilities[name] = {
            "kind": capability.kind,
            "about": capability.about,
            **_rate(passed, len(capability.cases)),
            "failures": failures,
        }
    passed = sum(one["passed"] for one in capabilities.values())
    return {
        "cases": {"path": str(suite.path), "sha256": sha256_of(suite.path)},
        **_rate(passed, len(cases)),
        "capabilities": capabilities,
    }


def _try(
    case: Case,
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    tags: Sequence[str],
) -> dict[str, Any] | None:
    """Return what went wrong with a case, or None."""
    was, now = tags[int(before.argmax())], tags[int(after.argmax())]
    place = tags.index(case.tag)
    if case.moves is not None:
        old, new = float(before[place]), float(after[place])
        moved = {
            "up": new > old or new >= SATURATED,
            "down": new < old or new <= 1 - SATURATED,
        }[case.moves]
        expected = f"{case.tag} {case.moves}"
        found = f"from {old:.3f} to {new:.3f}"
    elif case.changed is not None:
        moved, expected, found = was == now, f"{was}, as before", now
    else:
        moved, expected, found = was == case.tag, case.tag, was
    return None if moved else _failure(case, expected, found)


def _failure(case: Case, expected: str, found: str) -> dict[str, Any]:
    shown = {"title": case.after.title, "description": case.after.description}
    return {**shown, "expected": expected, "found": found}


def _rate(passed: int, total: int) -> dict[str, Any]:
    return {"num_cases": total, "passed": passed, "rate": measure_share(passed, total)}
