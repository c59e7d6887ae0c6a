import csv

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.bert import BertEncoder
from tagger.models.encoders import load_encoder
from tagger.models.transformer import TransformerClassifier
from tagger.models.vocabulary import prune_vocabulary, tokens_in_use

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcé中"
PIECES = ["ab", "##ab", "abc", "##bc", "bca", "##ca", "cab", "##éa", "aé", "##aab", "bb", "##bb"]
WORDS = [*LETTERS, *(f"##{letter}" for letter in LETTERS), *PIECES]
DOMAIN = ["Detecting objects in satellite images", "a BERT tokenizer, from scratch", "über café"]
OTHERS = [
    "transformers for protein folding", "Ünïcödé naïve façade", "深度学习 of 图像", "привет, мир",
    "🦄 is no letter", "x" * 150, "e=mc²", "[SEP] and [MASK] written out", "", "don't ###hash",
]  # fmt: skip


def small_tokenizer(words=WORDS, special=SPECIAL):
    """A WordPiece tokenizer of a few tokens, the special ones neither first nor together."""
    names = [*special[:1], *words[:3], *special[1:], *words[3:]]
    vocabulary = {name: at for at, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, around)
    return tokenizer


def small_encoder(tokenizer):
    """An encoder for it; the first number of a token's vector is the token's id."""
    encoder = BertEncoder(
        {
            "model_type": "bert", "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        }
    )  # fmt: skip
    table = encoder.get_input_embeddings().weight
    table.data[:, 0] = torch.arange(len(table))
    return encoder


WHOLE = small_tokenizer()


def prune(tokenizer, texts, most=None, max_length=64):
    encoder = small_encoder(tokenizer)
    kept = tokens_in_use(tokenizer, texts, most)
    return prune_vocabulary(encoder, tokenizer, kept, max_length), encoder


def tokens(tokenizer, text):
    return tokenizer.encode(text).tokens


def letters_of(found):
    return "".join(found).replace("##", "")


@pytest.fixture(scope="module")
def real(tiny_config):
    """The tokenizer of the bundled encoder, under a small random encoder, and both pruned."""
    torch.manual_seed(0)
    config = tiny_config("model.max_length=200").model
    encoder, whole = load_encoder(config)
    before = encoder.get_input_embeddings().weight.detach().clone()
    kept = tokens_in_use(whole, DOMAIN, None)
    pruned = prune_vocabulary(encoder, whole, kept, 200)
    return {"whole": whole, "pruned": pruned, "encoder": encoder, "before": before, "kept": kept}


@pytest.mark.slow
def test_texts_of_the_domain_are_cut_into_the_same_tokens(real):
    whole, pruned = real["whole"], real["pruned"]
    assert pruned.get_vocab_size() == len(real["kept"]) < whole.get_vocab_size() / 10
    for text in (*DOMAIN, "a satellite, objects from scratch in images", "TOKENIZER café"):
        assert tokens(pruned, text) == tokens(whole, text)
        assert pruned.encode(text).ids != whole.encode(text).ids


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_cut_into_pieces_and_lose_no_letter(real, text):
    before, after = tokens(real["whole"], text), tokens(real["pruned"], text)
    assert before.count("[UNK]") == after.count("[UNK]")
    assert letters_of(after) == letters_of(before)
    assert len(after) >= len(before)


def test_what_was_unknown_stays_unknown(real):
    assert "[UNK]" in tokens(real["whole"], "🦄"), "there is an unknown sign to try"
    assert tokens(real["pruned"], "🦄 in images") == ["[CLS]", "[UNK]", "in", "images", "[SEP]"]


def test_a_word_that_is_not_covered_becomes_shorter_pieces(real):
    assert tokens(real["whole"], "protein") == ["[CLS]", "protein", "[SEP]"]
    pieces = tokens(real["pruned"], "protein")[1:-1]
    assert len(pieces) > 1
    assert "[UNK]" not in pieces
    assert letters_of(pieces) == "protein"


words = st.text(LETTERS, min_size=1, max_size=8)
texts = st.lists(words, max_size=4).map(" ".join)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(domain=st.lists(texts, max_size=4), others=st.lists(texts, min_size=1, max_size=4))
@example(domain=["abc"], others=["abcab", "abab"])
@example(domain=["ab"], others=["abc"])
def test_whatever_the_domain_covered_words_stay_and_others_are_still_read(domain, others):
    pruned, _ = prune(WHOLE, domain)
    known = set(pruned.get_vocab())
    for text in (*domain, *others):
        before, after = tokens(WHOLE, text), tokens(pruned, text)
        assert "[UNK]" not in after
        assert letters_of(after) == letters_of(before)
        if known.issuperset(before):
            assert after == before
    assert all(known.issuperset(tokens(WHOLE, text)) for text in domain)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(kept=st.sets(st.sampled_from(PIECES)), others=st.lists(texts, min_size=1, max_size=4))
def test_any_subset_of_the_pieces_gives_what_wordpiece_gives_with_it(kept, others):
    """As a tokenizer that was made with these words from the beginning."""
    words = [word for word in WORDS if word in kept or word not in PIECES]
    vocabulary = WHOLE.get_vocab()
    ids = sorted(vocabulary[name] for name in (*SPECIAL, *words))
    pruned = prune_vocabulary(small_encoder(WHOLE), WHOLE, ids, 64)
    reference = small_tokenizer(words)
    for text in others:
        assert tokens(pruned, text) == tokens(reference, text)


def test_what_is_not_of_the_domain_goes_and_letters_and_special_tokens_stay():
    pruned, _ = prune(WHOLE, ["abc", "bb"])
    letters = {*LETTERS, *(f"##{letter}" for letter in LETTERS)}
    assert set(pruned.get_vocab()) == {*SPECIAL, *letters, "abc", "bb"}
    assert sorted(pruned.get_vocab().values()) == list(range(len(pruned.get_vocab())))
    assert tokens_in_use(WHOLE, [], None) == tokens_in_use(WHOLE, [""], None)


def test_the_order_of_the_tokens_stays():
    """Others read a token's rank out of it."""
    pruned, _ = prune(WHOLE, ["abcab bb aé"])
    before, after = WHOLE.get_vocab(), pruned.get_vocab()
    assert sorted(after, key=after.get) == sorted(after, key=before.get)


def test_the_most_frequent_tokens_stay():
    domain = ["bb abc", "bb abc", "bb ab", "bca"]
    letters = set(tokens_in_use(WHOLE, [], None))
    vocabulary = WHOLE.get_vocab()

    def kept(most):
        found = tokens_in_use(WHOLE, domain, most)
        assert found == sorted(found)
        return {name for name, at in vocabulary.items() if at in set(found) - letters}

    grown = [kept(most) for most in range(1, 10)]
    steps = [one for one, before in zip(grown, [set(), *grown], strict=False) if one != before]
    # Of ab and bca, once each, the one that comes first in the vocabulary.
    assert steps == [{"bb"}, {"bb", "abc"}, {"bb", "abc", "ab"}, {"bb", "abc", "ab", "bca"}]
    assert kept(99) == kept(None) == steps[-1]


def test_many_texts_are_counted_as_few_are():
    few = ["abc bb", "aé", "bca"]
    assert tokens_in_use(WHOLE, few * 700, None) == tokens_in_use(WHOLE, few, None)
    many = ["ab"] * 3 + ["abc"] * 1500 + ["bca"] * 1000
    some = tokens_in_use(WHOLE, many, 4)
    assert set(some) >= {WHOLE.token_to_id("abc"), WHOLE.token_to_id("bca")}


def test_special_tokens_keep_their_part_under_new_ids(real):
    pruned, whole = real["pruned"], real["whole"]
    for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"):
        assert pruned.token_to_id(name) == real["kept"].index(whole.token_to_id(name))
    encoding = pruned.encode("objects")
    assert encoding.ids[0] == pruned.token_to_id("[CLS]") != whole.token_to_id("[CLS]")
    assert encoding.ids[-1] == pruned.token_to_id("[SEP]")
    assert encoding.special_tokens_mask == [1, 0, 1]
    # Written out in a text they are read as before.
    text = "images [MASK] [SEP] objects"
    assert tokens(pruned, text) == tokens(whole, text)


@pytest.mark.parametrize("kind", ["bert", "roberta", "sequence", "none"])
def test_special_tokens_are_put_around_a_text_by_any_processor(kind):
    tokenizer = small_tokenizer()
    around = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = {
        "bert": processors.BertProcessing(*around),
        "roberta": processors.RobertaProcessing(*around),
        "sequence": processors.Sequence(
            [processors.ByteLevel(), processors.BertProcessing(*around)]
        ),
        "none": processors.Sequence([]),
    }[kind]
    pruned, _ = prune(tokenizer, ["abc"])
    encoding = pruned.encode("abc")
    assert encoding.tokens == tokens(tokenizer, "abc")
    assert encoding.ids == [pruned.token_to_id(name) for name in encoding.tokens]
    assert encoding.ids != tokenizer.encode("abc").ids


def test_a_tokenizer_without_a_processor_is_pruned_too():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "ab": 2}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]"])
    pruned, _ = prune(tokenizer, ["a"])
    assert pruned.encode("a").ids == [1]
    assert pruned.get_vocab_size() == 2


def test_each_token_keeps_its_vector(real):
    table = real["encoder"].get_input_embeddings()
    assert table.weight.shape == (len(real["kept"]), 32)
    assert real["encoder"].embeddings.word_embeddings is table
    for name, at in real["pruned"].get_vocab().items():
        assert torch.equal(table.weight[at], real["before"][real["whole"].token_to_id(name)])
    assert real["encoder"].config.vocab_size == len(real["kept"])


def test_padding_is_renumbered_with_the_rest():
    tokenizer = small_tokenizer(special=["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    encoder = small_encoder(tokenizer)
    encoder.config.pad_token_id = tokenizer.token_to_id("[PAD]")
    kept = [at for at in tokens_in_use(tokenizer, [], None) if at != tokenizer.token_to_id("a")]
    pruned = prune_vocabulary(encoder, tokenizer, kept, 64)
    assert encoder.config.pad_token_id == pruned.token_to_id("[PAD]")
    assert pruned.token_to_id("[PAD]") < tokenizer.token_to_id("[PAD]")
    nothing = small_encoder(tokenizer)
    nothing.config.pad_token_id = None
    prune_vocabulary(nothing, tokenizer, kept, 64)
    assert nothing.config.pad_token_id is None


def test_a_pruned_tokenizer_cuts_and_does_not_pad():
    padded = small_tokenizer()
    padded.enable_padding(length=50)
    pruned, _ = prune(padded, ["abc"], max_length=5)
    assert tokens(pruned, "abc") == ["[CLS]", "abc", "[SEP]"]
    assert tokens(pruned, "abc " * 9) == ["[CLS]", "abc", "abc", "abc", "[SEP]"]
    # The tokenizer that it was made of is another one.
    assert len(tokens(padded, "abc")) == 50


def test_a_pruned_tokenizer_is_written_and_read_back(real, tmp_path):
    path = str(tmp_path / "tokenizer.json")
    real["pruned"].save(path)
    again = Tokenizer.from_file(path)
    assert again.get_vocab() == real["pruned"].get_vocab()
    for text in (*DOMAIN, *OTHERS):
        assert again.encode(text).ids == real["pruned"].encode(text).ids


def test_tokenizers_of_another_type_are_refused():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    encoder = small_encoder(tokenizer)
    with pytest.raises(UserError) as caught:
        prune_vocabulary(encoder, tokenizer, [0, 1], 8)
    assert caught.value.summary == (
        "model.vocabulary_from needs a tokenizer of type WordPiece, and this one is WordLevel"
    )
    assert encoder.get_input_embeddings().num_embeddings == 2


def test_encoders_of_the_library_are_pruned_too():
    config = DistilBertConfig(
        vocab_size=WHOLE.get_vocab_size(), dim=8, n_layers=1, n_heads=2, hidden_dim=8
    )
    encoder = DistilBertModel(config).eval()
    whole = encoder(torch.tensor([WHOLE.encode("abc bb").ids])).last_hidden_state
    pruned = prune_vocabulary(encoder, WHOLE, tokens_in_use(WHOLE, ["abc bb"], None), 64)
    again = encoder(torch.tensor([pruned.encode("abc bb").ids])).last_hidden_state
    torch.testing.assert_close(again, whole)
    assert encoder.get_input_embeddings().num_embeddings == pruned.get_vocab_size()
    assert isinstance(encoder.embeddings.word_embeddings, nn.Embedding)


@pytest.fixture
def domain_file(tmp_path):
    path = tmp_path / "domain.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [["id", "title", "description"]]
        csv.writer(file).writerows(rows + [[n, text, ""] for n, text in enumerate(DOMAIN)])
    return path


@pytest.mark.slow
def test_a_student_with_fewer_tokens_computes_the_same(tiny_config, domain_file, tmp_path):
    torch.manual_seed(0)
    whole = TransformerClassifier.build(tiny_config().model, ["a", "b"])
    torch.manual_seed(0)
    fewer = TransformerClassifier.build(
        tiny_config(f"model.vocabulary_from=[{domain_file}]").model, ["a", "b"]
    )
    fewer.module.head.load_state_dict(whole.module.head.state_dict())
    items = [Item(str(n), text, "") for n, text in enumerate(DOMAIN)]
    np.testing.assert_allclose(fewer.predict_proba(items), whole.predict_proba(items), atol=1e-6)
    assert len(fewer.module.encoder.get_input_embeddings().weight) < 2100
    fewer.save(tmp_path / "model")
    again = TransformerClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(items), fewer.predict_proba(items))
    theirs = AutoModel.from_pretrained(tmp_path / "model")
    assert theirs.config.vocab_size == len(theirs.get_input_embeddings().weight) < 2100
    small = tiny_config(f"model.vocabulary_from=[{domain_file}]", "model.vocabulary_size=1").model
    assert len(TransformerClassifier.build(small, ["a", "b"]).tokenizer.get_vocab()) == 1994 + 5


def test_a_file_of_tokens_that_is_not_there_is_named(tiny_config):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        TransformerClassifier.build(
            tiny_config("model.vocabulary_from=[nowhere.csv]").model, ["a", "b"]
        )
