import pytest

from tagger.errors import UserError
from tagger.models.tokenization import load_tokenizer


@pytest.fixture
def folder(tiny_classifier, tmp_path):
    tiny_classifier.tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_cuts_where_it_is_told_and_does_not_pad(folder):
    short, long = load_tokenizer(folder, 5).encode_batch_fast(["word", "word " * 50])
    assert (len(short.ids), len(long.ids)) == (3, 5)


def test_a_tokenizer_that_is_missing_or_damaged_is_told(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(folder, 5)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        load_tokenizer(folder, 5)
