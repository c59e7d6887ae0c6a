"""Defines the plan of a rollout: its stages, guards and tests; reads it from yaml."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, model_validator

from tagger.config.messages import nearest, short_line, validate_config
from tagger.config.schema import Section
from tagger.errors import UserError

PLANS = Path(__file__).parent / "plans"

Share = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(gt=0, lt=0.5)]


class StageConfig(Section):
    """One stage: what share of the items the new run decides on, and what ends the stage."""

    share: Share
    """Share of the duplicate groups whose items the new run decides on; 0: shadow, in which both
    runs answer and the old one decides."""
    items: int = Field(ge=1)
    """Least items of the stage about which the new run was asked."""
    hours: float = Field(default=0.0, ge=0)
    """Least length of the stage."""
    until: Literal["enough", "better", "ab", "hand"] = "enough"
    """What else ends it. enough: nothing; better: judged disagreements say that the new run decides
    better; ab: the A/B test says so; hand: a person promotes."""


class GuardsConfig(Section):
    """Limits that the new run must keep; if it does not, it is rolled back."""

    alpha: Chance = 0.05
    """Chance that a new run which keeps all limits is ever rolled back by them."""
    failures: float = Field(default=1e-6, gt=0, lt=0.1)
    """Share of items on which it may fail where the old run does not."""
    deadline_ms: int = Field(default=1_000, ge=1)
    """By when it has to answer, and no later than half of the service's own deadline; after that
    the old run's decision stands."""
    slow: float = Field(default=0.01, gt=0, lt=0.1)
    """Share of items that it may answer later: 0.01 makes the deadline a limit of p99."""
    review_rise: Share = 0.0
    """By how much of all items more may go to people."""
    published_rise: Share = 0.1
    """By how much of all items more may be published."""


class AbConfig(Section):
    """An A/B test between the items of both arms, of something that is to be rare."""

    metric: Literal["reports", "review"]
    """What is counted. reports: items that users report; review: items that go to people."""
    baseline: float = Field(gt=0, lt=1)
    """Share of items that have it with the old run, as far as it is known."""
    effect: float = Field(gt=0, lt=1)
    """Smallest change of the share that matters."""
    power: float = Field(default=0.8, gt=0.5, lt=1)
    """Chance of finding such a change in as many items as are said at the start."""
    window_hours: float = Field(default=24.0, ge=0)
    """For how long reports are waited for: younger items are not counted yet."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.effect >= self.baseline:
            raise ValueError(f"effect={self.effect:g} is not below baseline={self.baseline:g}")
        return self


class Plan(Section):
    """How a new run is to take an old one's place."""

    name: str = Field(min_length=1, max_length=100)
    """What it is called."""
    alpha: Chance = 0.05
    """Chance that a run which is as good as the old one is ever promoted, or refused, for quality,
    all tests together."""
    wrong_costs: float = Field(default=4.0, gt=0, le=1_000)
    """So many right published tags does a wrong one outweigh."""
    guards: GuardsConfig = GuardsConfig()
    ab: AbConfig | None = None
    stages: list[StageConfig] = Field(min_length=1, max_length=50)
    """In their order; after the last one the new run is promoted."""

    @property
    def quality_alpha(self) -> float:
        """Alpha of each test of quality."""
        return self.alpha / (1 if self.ab is None else 2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        shares = [stage.share for stage in self.stages]
        if shares[0] != 0:
            raise ValueError("stages: the first one needs share: 0, since a rollout begins unseen")
        if shares != sorted(shares):
            raise ValueError(f"stages: their shares go down: {', '.join(f'{s:g}' for s in shares)}")
        tested = [stage.share for stage in self.stages if stage.until == "ab"]
        if bool(tested) != (self.ab is not None):
            raise ValueError("`ab` and a stage with `until: ab` go together: give both or neither")
        if len(tested) > 1 or not all(0 < share < 1 for share in tested):
            raise ValueError("stages: one may have `until: ab`, with a share between 0 and 1")
        return self


def load_plan(name: str) -> Plan:
    """Read a plan: a yaml file, or the name of one that is shipped.

    Raises:
        UserError: naming everything that is wrong with it.
    """
    shipped = sorted(path.stem for path in PLANS.glob("*.yaml"))
    path = PLANS / f"{name}.yaml" if name in shipped else Path(name)
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(
            f"there is no plan {name!r}{nearest(name, shipped)}",
            hint=f"Shipped ones: {', '.join(shipped)}; or give a yaml file.",
        ) from None
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not yaml: {short_line(error)}") from None
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise UserError(f"{path}: expected a mapping of settings: name, stages, ...")
    return validate_config(Plan, plain, f"the plan {path} cannot be used:")
