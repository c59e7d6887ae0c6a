import random
import string

import pytest

from tagger.data.duplicates import shingles
from tagger.service.fingerprints import BANDS, COMPARED, comparable, fingerprints, overlap


def words(rng: random.Random, number: int) -> list[str]:
    return ["".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(number)]


def test_case_spacing_and_signs_make_no_other_text() -> None:
    one = comparable("Fast  CPUs!", "How they (really) work.")
    two = comparable("fast cpus", "how they really work")
    assert one == two
    assert fingerprints(one) == fingerprints(two)
    assert overlap(shingles(one), shingles(two)) == 1.0


def test_fingerprints_are_signed_numbers_of_64_bits_and_stay_what_they_are() -> None:
    values = fingerprints("a text that was stored by another process")
    assert len(values) == BANDS + 1
    assert all(-(2**63) <= value < 2**63 for value in values)
    # They are stored: another way to compute them needs another schema version.
    assert (values[0], values[1]) == EXPECTED


EXPECTED = (-4949903061625080105, -6732439168465602340)


@pytest.mark.parametrize(("changed", "least", "most"), [(1, 0.95, 1.0), (30, 0.0, 0.2)])
def test_similar_texts_share_a_band_and_others_do_not(
    changed: int, least: float, most: float
) -> None:
    rng = random.Random(0)
    shared = 0
    for _ in range(100):
        one = words(rng, 40)
        two = [*one[changed:], *words(rng, changed)]
        shared += bool({*fingerprints(" ".join(one))} & {*fingerprints(" ".join(two))})
    assert least <= shared / 100 <= most


@pytest.mark.parametrize("text", ["a", "深度学习", "😀"])
def test_the_shortest_texts_have_fingerprints_too(text: str) -> None:
    assert len(fingerprints(comparable(text, ""))) == BANDS + 1


def test_a_text_is_compared_by_its_beginning() -> None:
    text = " ".join(words(random.Random(0), 2_000))
    assert len(comparable(text, "")) <= COMPARED
    assert comparable(text, "one end") == comparable(text, "another end")
    assert comparable(f"new {text}", "") != comparable(text, "")
