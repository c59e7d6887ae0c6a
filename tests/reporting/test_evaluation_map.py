from typing import Any

import pytest

from tagger.evaluation.report import MapPoint
from tagger.reporting.evaluation_map import COLOURS, HEIGHT, MARGIN, WIDTH, draw_map


def row(**changes: Any) -> MapPoint:
    given: dict[str, Any] = {"id": "1", "x": 0.5, "y": 0.5, "true": "a", "predicted": "a"}
    given |= {"title": "t", "description": "", "probability": 0.9}
    return MapPoint(**given | changes)


def values(rows: list[MapPoint], tags: list[str]) -> Any:
    return draw_map(rows, tags).values


def test_dots_lie_within_the_margins() -> None:
    corners = [row(x=x, y=y) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    places = {(dot["x"], dot["y"]) for dot in values(corners, ["a"])["dots"]}
    assert places == {(x, y) for x in (MARGIN, WIDTH - MARGIN) for y in (MARGIN, HEIGHT - MARGIN)}


def test_errors_lie_on_top_and_say_so() -> None:
    rows = [row(id="w", predicted="b"), row(id="r"), row(id="v", true="b"), row(id="s")]
    dots = values(rows, ["a", "b"])["dots"]
    assert [dot["row"].id for dot in dots] == ["r", "s", "w", "v"]
    assert [dot["wrong"] for dot in dots] == [False, False, True, True]
    assert ["wrong" in dot["classes"].split() for dot in dots] == [False, False, True, True]
    assert "4 rows as dots, 2 of them wrong." in draw_map(rows, ["a", "b"]).text


def test_colours_are_of_the_true_tag_and_begin_again() -> None:
    tags = [f"tag {number}" for number in range(COLOURS + 2)]
    page = values([row(true=tags[11], predicted=tags[3])], tags)
    assert "t1" in page["dots"][0]["classes"].split()
    assert page["tags"][1] == ("t1", "tag 1")
    assert page["tags"][11] == ("t1", "tag 11")


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.34, 0.5, 0.65, 0.7, 0.9, 0.97, 0.999, 1.0])
def test_the_legend_says_how_sure_a_dot_is(probability: float) -> None:
    page = values([row(probability=probability)], ["a"])
    legend = dict(page["sure"])
    (own,) = set(page["dots"][0]["classes"].split()) & set(legend)
    low, high = map(float, legend[own].split(" to "))
    assert low <= probability < high or probability == high == 1


def test_no_row_is_an_empty_map() -> None:
    assert values([], ["a"])["dots"] == []
