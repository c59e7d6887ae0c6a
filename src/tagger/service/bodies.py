"""Defines the bodies of requests and answers, which the OpenAPI document describes."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tagger.service.events import NO_TAG

MOST_FIELDS = 20
MOST_ITEMS = 1_000
NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _check_text(text: str) -> str:
    # Neither can be kept everywhere: PostgreSQL has no NUL, and UTF-8 no halves of characters.
    if NO_TEXT.search(text):
        raise ValueError("a NUL character, or half of a surrogate pair, is no text")
    return text


WITHOUT_NUL: dict[str, Any] = {"pattern": r"^[^\x00]*$"}
Text = Annotated[str, Field(json_schema_extra=WITHOUT_NUL), AfterValidator(_check_text)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra=WITHOUT_NUL),
    AfterValidator(_check_text),
]
Number = Annotated[int, Field(ge=1, lt=2**53)]  # beyond it, not every reader of JSON is exact
# `openapi.complete` puts the run's tags in the place of these formats.
Tag = Annotated[Name, Field(json_schema_extra={"format": "tag"})]
Decision = Annotated[str, Field(json_schema_extra={"format": "decision"})]
Probabilities = Annotated[
    dict[str, float], Field(json_schema_extra={"propertyNames": {"format": "tag"}})
]


class Body(BaseModel):
    """A body: strictly typed, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, given: Any) -> Any:
        # Each unknown field is a problem of its own: to make 100,000 of them takes seconds.
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"{len(given):,} fields: no body has so many")
        return given


def _filled(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"pattern": r"\S"}}}


class ItemIn(Body):
    """An item: its title, its description, or both."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [_filled("title"), _filled("description")]}
    )

    id: Name | None = Field(None, description="what its source calls it")
    title: Text = ""
    description: Text = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.title.strip() or self.description.strip()):
            raise ValueError("title and description are both empty: there is nothing to tag")
        return self


class SubmittedItem(ItemIn):
    """An item that is to be kept."""

    suggested_tag: Tag | None = Field(None, description="the submitter's; evidence for review")


class ClassifyIn(Body):
    """Items to classify."""

    items: list[ItemIn] = Field(min_length=1, max_length=MOST_ITEMS)


class SubmitIn(Body):
    """Items to keep."""

    items: list[SubmittedItem] = Field(min_length=1, max_length=MOST_ITEMS)


class FeedbackIn(Body):
    """A report that the tag of an item is wrong, or that it is right."""

    item: Number
    tag: Tag | None = Field(None, description="the right one")
    right: bool = Field(False, description="the tag is right; then `tag` is left out")
    comment: Annotated[Text, Field(max_length=2_000)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.right and self.tag is not None:
            raise ValueError("give either right: true or the right tag")
        return self


class Verdict(Body):
    """What a person says of an item: its tag, or why it is not published."""

    tag: Tag | None = None
    duplicate: bool = Field(False, description="of the item that it was found to be like")
    rejected: bool = Field(False, description="no content of this platform, such as spam")

    @property
    def count(self) -> int:
        """How many of the three are given; one is expected."""
        return (self.tag is not None) + self.duplicate + self.rejected

    @property
    def label(self) -> str | None:
        """The verdict as it is kept: a tag; None: a duplicate; `NO_TAG`: rejected."""
        return NO_TAG if self.rejected else self.tag


class LabelIn(Verdict):
    """A person's label: a tag, or that the item is a duplicate, or rejected."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count != 1:
            raise ValueError("give either a tag, or duplicate: true, or rejected: true")
        return self


class Classified(BaseModel):
    """What the run says of an item."""

    id: str | None
    decision: Decision = Field(description="a tag, or `needs review`")
    tag: Tag | None = Field(description="the most probable one; null: not asked")
    probabilities: Probabilities | None
    reason: str = Field(description="why a person is asked; empty where none is")
    truncated: bool = Field(description="whether a text was cut before the model read it")


class Submitted(Classified):
    """What became of an item; the decision may be `duplicate` too, which is not published."""

    reason: str = Field(
        description="why a person is asked; `rejected`: it is a duplicate of what people rejected"
    )
    item: int = Field(description="its number in the store")
    duplicate_of: int | None = Field(description="the item that it is (likely) a duplicate of")
    review_id: int | None = Field(description="the review that it waits for")


class OfRun(BaseModel):
    """Which run answered, by its name and a hash of its model and its decision."""

    run: str
    version: str


class ClassifyOut(OfRun):
    """Answers in the order of the items."""

    items: list[Classified]


class SubmitOut(OfRun):
    """Answers in the order of the items."""

    items: list[Submitted]


class FeedbackOut(BaseModel):
    """Whether a report counts: the first of each key for an item does."""

    item: int
    counted: bool


class Published(BaseModel):
    """A published item; times are milliseconds since 1970 in UTC."""

    item: int
    id: str | None
    tag: Tag
    title: str
    description: str
    submitted_at: int
    published_at: int


class ContentOut(BaseModel):
    """A page of published items, the latest first."""

    items: list[Published]
    next: int | None = Field(description="`cursor` of the page that follows; null: there is none")


class OfReview(BaseModel):
    """Which review it is, and of which item."""

    review_id: int
    item: int


class ReviewListed(OfReview):
    """An item that waits for a person."""

    title: str
    reason: str
    opened_at: int
    claimed: bool


class Hold(BaseModel):
    """That nothing is published by the run, since when, and why."""

    since: int
    reason: str


class Agreement(BaseModel):
    """How far the first two people of a review agree: Cohen's kappa, null where it is undefined."""

    pairs: int
    kappa: float | None


class ReviewsOut(BaseModel):
    """The queue: how many wait, how many of them are claimed, and the first ones."""

    open: int
    claimed: int
    labelled: int = Field(description="labels that people gave so far")
    rejected: int = Field(description="of them, those by which an item is rejected")
    hold: Hold | None
    agreement: Agreement
    reviews: list[ReviewListed]


class Similar(BaseModel):
    """A published item near by meaning."""

    item: int
    title: str
    tag: Tag


class Original(BaseModel):
    """The kept item that another is like; without a tag it waits itself, or is rejected."""

    item: int
    title: str
    description: str
    tag: Tag | None
    rejected: bool


class Review(OfReview):
    """An item that a person has claimed, until the lease ends."""

    reason: str
    blind: bool = Field(description="of the random sample: what is known of its tag is hidden")
    lease_until: int
    title: str
    description: str
    tag: Tag | None
    probabilities: Probabilities | None
    suggested_tag: Tag | None
    reported_tags: list[Tag]
    labels: list[Tag | Literal[""] | None] = Field(
        description="tags that two people gave, who differ, null for a duplicate, empty for a "
        "rejected item; else none"
    )
    original: Original | None = Field(description="the item that it is likely a duplicate of")
    similar: list[Similar]


class ClaimOut(BaseModel):
    """The claimed item; null where none is free."""

    review: Review | None


class LabelOut(OfReview):
    """What a labelled item is now; without a status another person's label is waited for."""

    status: str | None
    tag: Tag | None


class State(BaseModel):
    """How the service is."""

    status: str = Field(examples=["ready"])
    run: str | None = None
    version: str | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(examples=["a field is wrong"])
    problems: list[str] = Field([], examples=[["items.0.titel: Extra inputs are not permitted"]])
