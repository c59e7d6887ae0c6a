"""Defines the typed settings of the service, and reads them from `service.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tagger.config.messages import short_line, validate_config
from tagger.config.schema import Section
from tagger.errors import UserError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Addresses that no other machine reaches."""

Similarity = Annotated[float, Field(gt=0.5, le=1)]


class LimitsConfig(Section):
    """What a request may ask for, and how many may."""

    body_bytes: int = Field(default=2_000_000, ge=1_000, le=100_000_000)
    """Longest body of a request."""
    items: int = Field(default=64, ge=1, le=1_000)
    """Most items of a request."""
    text_characters: int = Field(default=20_000, ge=100, le=1_000_000)
    """A title, or a description, is cut to this before the model reads it; the answer says so."""
    queue: int = Field(default=128, ge=1, le=100_000)
    """Most items that wait for the model, and most requests that wait for the store."""
    wait_seconds: float = Field(default=0.03, gt=0, le=300)
    """Longest that what waits for the model may take, where it is more than a burst."""
    deadline_seconds: float = Field(default=5.0, gt=0, le=300)
    """By when every request is answered."""
    requests_per_second: float = Field(default=2_000.0, gt=0)
    """Most requests with one key."""
    requests_per_second_by_address: float = Field(default=2_000.0, gt=0)
    """Most requests from one address, before its key is looked at."""
    viewer_reports_per_hour: float = Field(default=60.0, gt=0)
    """Most reports and answers from one address by viewers of the content page without a key."""


class ReviewConfig(Section):
    """How people are given items."""

    lease_seconds: int = Field(default=600, ge=5, le=86_400)
    """How long an item is one person's alone."""
    sample: float = Field(default=0.02, ge=0, le=1)
    """Share of all items that a person looks at without being told what the run says, whether it
    publishes them or asks."""
    people: Literal[1, 2] = 1
    """How many label each item; where two differ, a third decides."""


class DuplicatesConfig(Section):
    """From when on two items are the same: by the overlap of their texts, 0 to 1, or by meaning."""

    certain: Similarity = 0.75
    """Linked to the one that is kept, and not published; unless numbers in the texts differ."""
    likely: Similarity = 0.7
    """To review."""
    meaning: Similarity = 0.86
    """Cosine of the encoder's vectors from which on a person is asked: there 1 of 120 different
    items of the gold set's 5,000 has such a neighbour, and 9 of 25 paraphrases."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.likely > self.certain:
            raise ValueError(f"likely={self.likely} is above certain={self.certain}")
        return self


class ServiceConfig(Section):
    """All settings of the service; each has a default."""

    store: str = "sqlite:///tagger-store.db"
    """Where everything is kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address that is listened on; one that other machines reach needs keys in the store."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """Port that is listened on; 0: one that is free."""
    hosts: list[str] = Field(default=["localhost", "127.0.0.1", "[::1]"], min_length=1)
    """Names that the service may be called by, as they stand in the Host header, without port."""
    public: bool = True
    """Whether the content page is open to everybody; otherwise to those who have any key."""
    https: bool = False
    """Whether browsers reach the service by https alone: cookies are then always Secure."""
    limits: LimitsConfig = LimitsConfig()
    review: ReviewConfig = ReviewConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()

    @field_validator("store")
    @classmethod
    def _check_store(cls, value: str) -> str:
        try:
            url = make_url(value)
            backend = url.get_backend_name()
        except ArgumentError:
            backend = ""
        if backend == "postgresql" or (backend == "sqlite" and url.database not in {None, ""}):
            return value
        raise ValueError(
            "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; "
            "what was found is not repeated here, as it may hold a password"
        )


def load_settings(path: Path | None, given: Mapping[str, object]) -> ServiceConfig:
    """Read the settings.

    Args:
        path: A yaml file; None: the defaults.
        given: Settings that go before those of the file.

    Raises:
        UserError: naming everything that is wrong with them.
    """
    plain: object = {}
    if path is not None:
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            raise UserError(f"there is no file {path}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not yaml: {short_line(error)}") from None
        if not isinstance(plain, dict):
            raise UserError(f"{path}: expected a mapping of settings")
    assert isinstance(plain, dict)
    where = "the settings of the service" if path is None else str(path)
    return validate_config(ServiceConfig, plain | dict(given), f"{where} cannot be used:")
