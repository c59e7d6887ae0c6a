from tests.service.conftest import Submit

from tagger.service.database import Store
from tagger.service.duplicates import Match, find_match

LONG = "how to train a small model that files short texts under one of a few tags on a laptop"


def match(store: Store, title: str, description: str = "") -> Match | None:
    with store.reading() as connection:
        return find_match(connection, title, description)


def test_nothing_is_like_an_item_in_an_empty_store(store: Store) -> None:
    assert match(store, LONG) is None


def test_the_same_text_is_found_whatever_its_case_and_signs(store: Store, submit: Submit) -> None:
    item = submit("Segment Anything!")
    submit("something else")
    assert match(store, "segment  anything") == Match(item, 1.0)
    assert match(store, "", "Segment anything.") == Match(item, 1.0)


def test_a_text_with_a_word_changed_is_found_with_its_overlap(store: Store, submit: Submit) -> None:
    item = submit(LONG)
    found = match(store, LONG.replace("laptop", "phone"))
    assert found is not None
    assert found.item == item
    assert 0.7 < found.overlap < 1


def test_other_texts_are_not_alike(store: Store, submit: Submit) -> None:
    submit(LONG)
    assert match(store, "weather of tomorrow: rain, then snow, and fog in the valleys") is None


def test_of_several_the_oldest_of_the_closest_is_named(store: Store, submit: Submit) -> None:
    submit(LONG.replace("laptop", "phone"))
    same = submit(LONG)
    submit(LONG)
    assert match(store, LONG) == Match(same, 1.0)


def test_duplicates_themselves_are_never_named(store: Store, submit: Submit) -> None:
    kept = submit(LONG)
    submit(LONG, "duplicate")
    assert match(store, LONG) == Match(kept, 1.0)


def test_texts_whose_numbers_differ_are_for_a_person(store: Store, submit: Submit) -> None:
    item = submit(f"{LONG}, part 1")
    found = match(store, f"{LONG}, part 2")
    assert found is not None
    assert found.overlap > 0.9
    assert not found.is_certain(0.75)
    less = match(store, LONG)  # without a number there is none that differs
    assert less is not None
    assert less.item == item
    assert less.is_certain(0.75)
