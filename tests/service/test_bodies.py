import json

import pytest
from pydantic import ValidationError

from tagger.service.bodies import FeedbackIn, ItemIn, LabelIn, SubmitIn


@pytest.mark.parametrize(
    "text",
    [
        '{"title": "", "description": " "}',
        "{}",
        '{"title": "a\\u0000b"}',
        '{"title": "a\\ud800b"}',
        '{"title": 3}',
        '{"title": null}',
        '{"title": "a", "tag": "fruit"}',
        '{"title": "a", "id": ""}',
    ],
)
def test_what_is_no_item_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ItemIn.model_validate(json.loads(text))


def test_a_title_or_a_description_is_enough() -> None:
    assert ItemIn(title="a").description == ""
    assert ItemIn(description="深度学习 😀").title == ""


def test_at_least_one_item_is_submitted() -> None:
    with pytest.raises(ValidationError):
        SubmitIn(items=[])


@pytest.mark.parametrize("item", [0, -1, 2**53, "1", 1.0, True])
def test_the_number_of_an_item_is_a_number(item: object) -> None:
    with pytest.raises(ValidationError):
        FeedbackIn.model_validate({"item": item})


@pytest.mark.parametrize(
    "label",
    [{}, {"tag": "fruit", "duplicate": True}, {"tag": "fruit", "rejected": True}, {"tag": ""},
     {"duplicate": True, "rejected": True}],
)  # fmt: skip
def test_a_label_is_a_tag_or_a_duplicate_or_a_rejection(label: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"give either|at least 1 character"):
        LabelIn.model_validate(label)
