from tagger.monitoring.repeats import REMEMBERED, Repeats, sign

LONG = "a library that cuts objects out of pictures with few labels and without a graphics card"


def test_what_says_the_same_repeats_and_other_things_do_not() -> None:
    repeats = Repeats()
    assert not repeats.repeats(f"Segment. {LONG}")
    assert repeats.repeats("SEGMENT! " + LONG.replace("few", "some"))
    assert not repeats.repeats("Speech. a course on how machines learn to listen")
    assert repeats.distinct == 2


def test_what_is_long_ago_is_forgotten() -> None:
    repeats = Repeats()
    repeats.repeats(LONG)
    for at in range(REMEMBERED):
        repeats.signatures[:, repeats.distinct % REMEMBERED] = at % 251
        repeats.distinct += 1
    assert not repeats.repeats(LONG)


def test_signatures_are_read_back_as_they_were() -> None:
    repeats = Repeats()
    repeats.repeats(LONG)
    again = Repeats.model_validate_json(repeats.model_dump_json())
    assert again.signatures.dtype == repeats.signatures.dtype
    assert again.repeats(LONG)


def test_a_text_without_shingles_has_a_signature() -> None:
    assert sign("").shape == sign(LONG).shape
