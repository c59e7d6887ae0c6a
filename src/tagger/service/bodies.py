"""Defines the bodies of requests and answers, which the OpenAPI document describes."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _check_text(text: str) -> str:
    # Neither can be kept everywhere: PostgreSQL has no NUL, and UTF-8 no halves of characters.
    if NO_TEXT.search(text):
        raise ValueError("a NUL character, or half of a surrogate pair, is no text")
    return text


Text = Annotated[str, AfterValidator(_check_text)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Number = Annotated[int, Field(ge=1, lt=2**63)]


class Body(BaseModel):
    """A body: strictly typed, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ItemIn(Body):
    """An item: its title, its description, or both."""

    id: Name | None = Field(None, description="what its source calls it", examples=["arxiv:1234"])
    title: Text = Field("", examples=["Segment anything"])
    description: Text = Field("", examples=["A model that cuts objects out of images."])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.title.strip() or self.description.strip()):
            raise ValueError("title and description are both empty: there is nothing to tag")
        return self


class SubmittedItem(ItemIn):
    """An item that is to be kept."""

    suggested_tag: Name | None = Field(None, description="the submitter's; evidence for review")


class ClassifyIn(Body):
    """Items to classify."""

    items: list[ItemIn] = Field(min_length=1)


class SubmitIn(Body):
    """Items to keep."""

    items: list[SubmittedItem] = Field(min_length=1)


class FeedbackIn(Body):
    """A report that the tag of an item is wrong, or that it is right."""

    item: Number
    tag: Name | None = Field(None, description="the right one")
    right: bool = Field(False, description="the tag is right; then `tag` is left out")
    comment: Annotated[Text, Field(max_length=2_000)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.right and self.tag is not None:
            raise ValueError("give either right: true or the right tag")
        return self


class LabelIn(Body):
    """A person's label: a tag, or that the item is a duplicate."""

    tag: Name | None = None
    duplicate: bool = Field(False, description="of the item that it was found to be like")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tag is None) != self.duplicate:
            raise ValueError("give either a tag or duplicate: true")
        return self


class Classified(BaseModel):
    """What the run says of an item."""

    id: str | None
    decision: str = Field(description="a tag, or `needs review`", examples=["mlops"])
    tag: str | None = Field(description="the most probable one; null: not asked")
    probabilities: dict[str, float] | None = Field(examples=[{"mlops": 0.97, "other": 0.03}])
    reason: str = Field(description="why a person is asked; empty where none is")
    truncated: bool = Field(description="whether a text was cut before the model read it")


class Submitted(Classified):
    """What became of an item; the decision may be `duplicate` too, which is not published."""

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
    tag: str
    title: str
    description: str
    submitted_at: int
    published_at: int


class ContentOut(BaseModel):
    """A page of published items, the latest first."""

    items: list[Published]
    next: int | None = Field(description="`cursor` of the page that follows; null: there is none")


class ReviewListed(BaseModel):
    """An item that waits for a person."""

    review_id: int
    item: int
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
    hold: Hold | None
    agreement: Agreement
    reviews: list[ReviewListed]


class Similar(BaseModel):
    """A published item near by meaning."""

    item: int
    title: str
    tag: str


class Original(BaseModel):
    """The kept item that another is like; its tag is null while it waits itself."""

    item: int
    title: str
    description: str
    tag: str | None


class Review(BaseModel):
    """An item that a person has claimed, until the lease ends."""

    review_id: int
    item: int
    reason: str
    blind: bool = Field(description="of the random sample: what is known of its tag is hidden")
    lease_until: int
    title: str
    description: str
    tag: str | None
    probabilities: dict[str, float] | None
    suggested_tag: str | None
    reported_tags: list[str]
    labels: list[str | None] = Field(
        description="tags that two people gave, who differ, null for a duplicate; else empty"
    )
    original: Original | None = Field(description="the item that it is likely a duplicate of")
    similar: list[Similar]


class ClaimOut(BaseModel):
    """The claimed item; null where none is free."""

    review: Review | None


class LabelOut(BaseModel):
    """What a labelled item is now; without a status another person's label is waited for."""

    review_id: int
    item: int
    status: str | None
    tag: str | None


class SkipOut(BaseModel):
    """A skipped item."""

    review_id: int
    item: int


class State(BaseModel):
    """How the service is."""

    status: str
    run: str | None = None
    version: str | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    error: str
    problems: list[str] = []
