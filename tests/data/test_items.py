import pytest

from tagger.data.items import Item


@pytest.mark.parametrize(
    ("title", "description", "expected"),
    [
        ("A title", "A text.", "A title. A text."),
        ("A title.", "A text.", "A title. A text."),
        ("Really?", "Yes", "Really? Yes"),
        ("A title", "", "A title"),
        ("", "A text.", "A text."),
        ("A \n title", "a\t\ttext\r\nhere", "A title. a text here"),
    ],
)
def test_text_joins_title_and_description_as_sentences(
    title: str, description: str, expected: str
) -> None:
    assert Item("1", title, description).text == expected


def test_content_hash_ignores_case_spacing_and_unicode_form() -> None:
    assert (
        Item("1", "Café  Ａ", "x y").content_hash == Item("2", "CAFE\u0301 a", "X\ny").content_hash
    )


def test_content_hash_tells_title_and_description_apart() -> None:
    assert Item("1", "a", "b").content_hash != Item("1", "a b", "").content_hash
    assert Item("1", "a", "b").content_hash != Item("1", "b", "a").content_hash


def test_content_hash_stays_the_same_over_releases() -> None:
    # Runs store these hashes: a change here makes old runs forget what they have seen.
    expected = "9f886b862f78dcb6381b0b925df71a052c4139e259ba2dcc361f844fe1c762ca"
    assert Item("1", "Title", "Description").content_hash == expected
