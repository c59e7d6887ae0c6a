from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.config.schema import SplitConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.data.readers import read_rows
from tagger.data.splits import Split, _check_groups, split_items, unseen_items
from tagger.errors import UserError

SHARED = Path(__file__).parents[2].parent / "shared/data"
MakeItem = Callable[..., Item]
MakeSplit = Callable[..., SplitConfig]
PARTS = ("train", "validation", "test")


@pytest.fixture
def items(make_item: MakeItem) -> list[Item]:
    """200 items: 120 red, 60 green, 20 blue; each tenth says the same as the one before it."""
    tags = ["red"] * 120 + ["green"] * 60 + ["blue"] * 20
    made = [make_item(number, tag) for number, tag in enumerate(tags)]
    for number in range(9, 200, 10):
        made[number] = make_item(number, tags[number], title=made[number - 1].title + "!")
    return made


def tags_of(items: list[Item], part: list[int]) -> Counter[str | None]:
    return Counter(items[index].tag for index in part)


def test_parts_divide_the_items_in_the_wanted_shares(
    items: list[Item], make_split: MakeSplit
) -> None:
    split = split_items(items, make_split(validation=0.1, test=0.2))
    assert sorted(split.train + split.validation + split.test) == list(range(200))
    assert abs(len(split.validation) - 20) <= 2
    assert abs(len(split.test) - 40) <= 2
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        indices = getattr(split, part)
        assert indices == sorted(indices)
        for tag, count in tags_of(items, indices).items():
            assert abs(count - share * tags_of(items, list(range(200)))[tag]) <= 2


def test_near_duplicates_stay_together(items: list[Item], make_split: MakeSplit) -> None:
    for seed in range(5):
        split = split_items(items, make_split(seed=seed))
        part_of = {index: part for part in PARTS for index in getattr(split, part)}
        assert all(part_of[n] == part_of[n - 1] for n in range(9, 200, 10))


def test_groups_that_are_given_are_those_that_stay_together(
    items: list[Item], make_split: MakeSplit
) -> None:
    """Pairs of neighbours, which share no words: found by nothing but the given groups."""
    pairs = [index // 2 for index in range(200)]
    for config in (make_split(), make_split(folds=5, fold=2, validation=0.1)):
        alone = split_items(items, config)
        paired = split_items(items, config, pairs)
        part_of = {index: part for part in PARTS for index in getattr(paired, part)}
        assert all(part_of[n] == part_of[n + 1] for n in range(0, 200, 2))
        assert sorted(part_of) == list(range(200))
        assert paired != alone


def test_groups_known_beforehand_give_the_same_split(
    items: list[Item], make_split: MakeSplit
) -> None:
    group_of = group_near_duplicates(items)
    for fold in range(3):
        config = make_split(folds=3, fold=fold, per_tag=20)
        assert split_items(items, config, group_of) == split_items(items, config)


def test_too_alike_items_name_the_key_that_deals_them_one_by_one(
    items: list[Item], make_split: MakeSplit
) -> None:
    with pytest.raises(UserError, match="in 1 groups of near-duplicates are too few") as caught:
        split_items(items, make_split(), [0] * 200)
    assert "group=off" in str(caught.value.hint)
    few = [items[0], items[150]]
    with pytest.raises(UserError, match="2 items are too few") as caught:
        split_items(few, make_split(group="off"))
    assert "group=off" not in str(caught.value.hint)


def test_off_deals_near_duplicates_one_by_one(make_item: MakeItem, make_split: MakeSplit) -> None:
    same = [make_item(n, "red" if n % 2 else "green", title="The same title") for n in range(40)]
    with pytest.raises(UserError, match="are too few"):
        split_items(same, make_split())
    for changes in ({}, {"folds": 5, "fold": 1}):
        split = split_items(same, make_split(group="off", **changes))
        assert abs(len(split.test) - (8 if changes else 6)) <= 1
        assert sorted(split.train + split.validation + split.test) == list(range(40))


def test_seed_decides_the_split(items: list[Item], make_split: MakeSplit) -> None:
    assert split_items(items, make_split(seed=1)) == split_items(items, make_split(seed=1))
    assert split_items(items, make_split(seed=1)) != split_items(items, make_split(seed=2))


@pytest.mark.parametrize("share", ["validation", "test"])
def test_a_part_of_no_share_is_empty(items: list[Item], make_split: MakeSplit, share: str) -> None:
    split = split_items(items, make_split(**{share: 0.0}))
    assert getattr(split, share) == []
    assert len(split.train) + len(split.validation) + len(split.test) == 200


def test_everything_can_be_trained_on(items: list[Item], make_split: MakeSplit) -> None:
    assert split_items(items, make_split(validation=0.0, test=0.0)).train == list(range(200))


def test_folds_test_each_item_once(items: list[Item], make_split: MakeSplit) -> None:
    tested: list[int] = []
    for fold in range(5):
        split = split_items(items, make_split(folds=5, fold=fold, validation=0.1))
        assert sorted(split.train + split.validation + split.test) == list(range(200))
        assert abs(len(split.test) - 40) <= 2
        assert abs(len(split.validation) - 20) <= 2
        assert set(tags_of(items, split.test)) == {"red", "green", "blue"}
        tested += split.test
    assert sorted(tested) == list(range(200))


def test_leftovers_of_many_tags_do_not_pile_up_in_one_fold(
    make_item: MakeItem, make_split: MakeSplit
) -> None:
    items = [make_item(n, f"tag {n % 6}") for n in range(6 * 13)]
    sizes = [len(split_items(items, make_split(folds=5, fold=fold)).test) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1


def test_rare_tag_reaches_every_part(make_item: MakeItem, make_split: MakeSplit) -> None:
    items = [make_item(n, "red") for n in range(97)] + [make_item(n, "blue") for n in (97, 98, 99)]
    for seed in range(10):
        split = split_items(items, make_split(seed=seed, validation=0.1, test=0.1))
        for part in PARTS:
            assert tags_of(items, getattr(split, part))["blue"] == 1


def test_single_item_of_a_tag_is_trained_on(make_item: MakeItem, make_split: MakeSplit) -> None:
    items = [make_item(n, "red") for n in range(30)] + [make_item(30, "blue")]
    assert 30 in split_items(items, make_split()).train


def test_as_even_as_the_library(items: list[Item], make_split: MakeSplit) -> None:
    """The reference for folds of equal size, by the largest distance from an equal share."""
    from sklearn.model_selection import StratifiedGroupKFold

    tags = [item.tag for item in items]
    reference = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = [
        test.tolist() for _, test in reference.split(tags, tags, group_near_duplicates(items))
    ]
    ours = [split_items(items, make_split(folds=5, fold=fold)).test for fold in range(5)]

    def unevenness(folds: list[list[int]]) -> float:
        return max(
            abs(tags_of(items, fold)[tag] - total / 5)
            for fold in folds
            for tag, total in Counter(tags).items()
        )

    assert unevenness(ours) <= unevenness(theirs)


def test_untagged_items_are_refused(make_item: MakeItem, make_split: MakeSplit) -> None:
    with pytest.raises(UserError, match="id '7' has no tag"):
        split_items([make_item(1), make_item(7, None)], make_split())


@pytest.mark.parametrize("count", [0, 5])
def test_fewer_than_two_tags_are_refused(
    make_item: MakeItem, make_split: MakeSplit, count: int
) -> None:
    with pytest.raises(UserError, match="at least two tags"):
        split_items([make_item(n) for n in range(count)], make_split())


def test_too_few_items_say_what_is_needed(make_item: MakeItem, make_split: MakeSplit) -> None:
    with pytest.raises(UserError, match="are too few") as caught:
        split_items([make_item(1, "red"), make_item(2, "blue")], make_split())
    assert any("gets none" in problem for problem in caught.value.problems)


def test_tag_that_one_fold_would_never_train_on_is_refused(
    make_item: MakeItem, make_split: MakeSplit
) -> None:
    items = [make_item(n, "red") for n in range(20)] + [make_item(20, "blue")]
    messages = []
    for fold in range(4):
        try:
            split_items(items, make_split(folds=4, fold=fold, validation=0.0))
        except UserError as error:
            messages.append(str(error))
    assert len(messages) == 1
    assert "train has no 'blue': there are 1 distinct items" in messages[0]


def test_fold_and_validation_that_leave_nothing_are_refused(
    items: list[Item], make_split: MakeSplit
) -> None:
    with pytest.raises(UserError, match="nothing is left to train on"):
        split_items(items, make_split(folds=2, fold=0, validation=0.5))


def test_leakage_is_refused_and_named(make_item: MakeItem) -> None:
    items = [
        make_item(0),
        make_item(1, title="A guide to graph networks", description="Long and thorough."),
        make_item(2, title="a guide to graph networks", description="Another text for it."),
        make_item(3),
    ]
    _check_groups(items, group_near_duplicates(items), Split([0], [1, 2], [3]))
    with pytest.raises(
        UserError, match="the split leaks: train id '1' and test id '2' say the same"
    ):
        _check_groups(items, group_near_duplicates(items), Split([0, 1], [3], [2]))
    with pytest.raises(UserError, match="train id '3' and test id '3'"):
        _check_groups(items, group_near_duplicates(items), Split([0, 3], [], [3]))


def test_unseen_items_leave_out_equals_and_near_duplicates(make_item: MakeItem) -> None:
    seen = [make_item(1), make_item(2, title="A guide to graph networks")]
    items = [
        make_item(5),
        make_item(6, title=seen[0].title.upper()),
        make_item(7, title="Guide to graph networks", description=""),
        make_item(8),
    ]
    assert unseen_items(items, seen) == [0, 3]
    assert unseen_items(items, []) == [0, 1, 2, 3]
    assert unseen_items([], seen) == []
    assert unseen_items([*items, seen[1]], seen, "off") == [0, 2, 3]


WORDS = ["graph", "vision", "speech", "tokens", "pixels", "deploy", "agents", "rank"]


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.tuples(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
            st.sampled_from(["red", "green"]),
        ),
        max_size=40,
    ),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.2, 0.5]),
    folds=st.sampled_from([None, 2, 3]),
    seed=st.integers(0, 3),
)
def test_any_items_give_a_sound_split_or_a_user_error(
    texts: list[tuple[str, str]], validation: float, test: float, folds: int | None, seed: int
) -> None:
    items = [Item(str(n), title, "", tag=tag) for n, (title, tag) in enumerate(texts)]
    fold = None if folds is None else folds - 1
    config = SplitConfig(
        validation=validation,
        test=test,
        seed=seed,
        folds=folds,
        fold=fold,
        per_tag=None,
        column=None,
    )
    try:
        split = split_items(items, config)
    except UserError:
        return
    assert sorted(split.train + split.validation + split.test) == list(range(len(items)))
    assert split == split_items(items, config)
    hashes = [{items[at].content_hash for at in getattr(split, part)} for part in PARTS]
    assert not (hashes[0] & hashes[1] or hashes[0] & hashes[2] or hashes[1] & hashes[2])
    _check_groups(items, group_near_duplicates(items), split)
    assert {item.tag for item in items} == {items[at].tag for at in split.train}


def test_real_data_is_split_within_two_items(make_split: MakeSplit) -> None:
    path = SHARED / "mwml/dataset.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    fields = ("id", "title", "description", "tag")
    items = [
        Item(*(str(row.values[field]) for field in fields[:3]), tag=row.values["tag"])
        for row in read_rows(path, fields, Problems())
    ]
    for seed in range(3):
        split = split_items(items, make_split(seed=seed))
        for part, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
            indices = getattr(split, part)
            assert abs(len(indices) - share * len(items)) <= 2
            for tag, total in tags_of(items, list(range(len(items)))).items():
                assert abs(tags_of(items, indices)[tag] - share * total) <= 2


def test_per_tag_draws_so_many_of_each_tag_and_larger_draws_hold_the_smaller(
    items: list[Item], make_split: MakeSplit
) -> None:
    whole = split_items(items, make_split())
    drawn = {n: split_items(items, make_split(per_tag=n)) for n in (1, 5, 30)}
    for n, split in drawn.items():
        full = tags_of(items, whole.train)
        assert tags_of(items, split.train) == {tag: min(n, full[tag]) for tag in full}
        assert (split.validation, split.test) == (whole.validation, whole.test)
    assert {*drawn[1].train} < {*drawn[5].train} < {*drawn[30].train} < {*whole.train}


def test_parts_of_the_source_are_kept_but_for_what_repeats_a_row_that_is_judged_by(
    items: list[Item], make_split: MakeSplit
) -> None:
    """Rows 8 and 9, 18 and 19, and so on, say the same."""
    parts = [PARTS[index % 3] for index in range(200)]

    split = split_items(items, make_split(), parts=parts)

    pairs = [(number - 1, number) for number in range(9, 200, 10)]
    assert split.test == [index for index in range(200) if index % 3 == 2]
    lost = {one for pair in pairs for one, other in (pair, pair[::-1]) if other % 3 == 2}
    assert split.validation == [n for n in range(200) if n % 3 == 1 and n not in lost]
    lost |= {one for pair in pairs for one, other in (pair, pair[::-1]) if other % 3 == 1}
    assert split.train == [n for n in range(200) if n % 3 == 0 and n not in lost]
    assert len(split.validation) + len(split.train) < 133


def test_where_the_source_gives_no_validation_part_train_gives_it(
    items: list[Item], make_split: MakeSplit
) -> None:
    parts = ["train"] * 100 + ["test"] * 10 + ["train"] * 90

    split = split_items(items, make_split(validation=0.1), parts=parts)
    none = split_items(items, make_split(validation=0.0), parts=parts)

    assert split.test == none.test == list(range(100, 110))
    assert abs(len(split.validation) - 19) <= 2
    assert sorted(split.train + split.validation) == none.train
    assert none.validation == []
    assert none.train == [index for index in range(200) if not 100 <= index < 110]
