import pytest

from tagger.audit.labels import describe_labels
from tagger.audit.report import Settlement
from tagger.audit.review_log import ReviewDecision
from tagger.audit.table import read_table
from tagger.oof.label_check import LabelCheck


@pytest.fixture
def described(toy_folder):
    """Four checked rows of which one is suspected, one was never learnt, and one is settled."""
    table = read_table(toy_folder / "items.csv", None)
    check = LabelCheck(
        rows=[0, 1, 3, 4],
        doubt_rank=[3, 1, 4, 2],
        credibility=[0.8, 0.1, 0.9, 0.3],
        suspected=[False, True, False, True],
        suggested=["fruit", "fruit", "fruit", "weather"],
        probability=[0.9, 0.8, 0.9, 0.6],
        votes=[{"words": (tag, 0.9)} for tag in ("fruit", "fruit", "fruit", "weather")],
        unlearned=[False, True, False, False],
        agreed=[True, False, True, False],
    )
    item = table.items[4]
    decision = ReviewDecision(
        item.id, item.content_hash, "keep", "metal", "metal", "Ada", "2026-11-29", "it is", "", ""
    )
    return describe_labels(check, table, {4: decision})


def test_doubtful_rows_are_listed_by_rank_with_what_is_known_of_them(described):
    assert [row.id for row in described.rows] == ["t01", "t04"]
    first, second = described.rows
    assert (first.row, first.rank, first.place) == (1, 1, "row 2 (line 3)")
    assert (first.tag, first.suggested, first.probability) == ("metal", "fruit", 0.8)
    assert first.unlearned
    assert first.predictions == {"words": ("fruit", 0.9)}
    assert first.settled is None
    assert second.settled == Settlement(by="Ada", on="2026-11-29", why="it is")


def test_counts_are_those_of_the_checked_rows(described):
    assert (described.suspected, described.share, described.unlearned) == (2, 0.5, 1)
    assert described.agreement == 0.5
    assert list(described.by_tag) == ["fruit", "metal"]
    metal = described.by_tag["metal"]
    assert (metal.rows, metal.suspected, metal.agreed) == (2, 2, 0)
    assert metal.taken_for == {"fruit": 1, "weather": 1}
