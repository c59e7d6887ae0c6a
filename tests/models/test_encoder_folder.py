"""What encoders declare in the files beside their weights, and what a config makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tagger.config.schema import TrainConfig, TransformerConfig
from tagger.errors import UserError
from tagger.models.encoder_folder import adapt_tokenizer, apply_declarations, read_declarations
from tagger.models.encoders import as_declared

OPEN = {"pooling": "auto", "prompt": None, "normalize": None, "max_length": 128}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def modules(*kinds: str) -> list[dict[str, str]]:
    return [
        {"path": f"{number}_{kind}" if number else "", "type": f"sentence_transformers.m.{kind}"}
        for number, kind in enumerate(["Transformer", *kinds])
    ]


@pytest.fixture
def settle(tiny_config: Callable[..., TrainConfig]) -> Callable[..., Any]:
    """Applies the declarations of a folder to a model's config."""

    def settle(folder: Path, **changes: Any) -> tuple[TransformerConfig, str]:
        model = tiny_config("model=minilm").model.model_copy(
            update={**OPEN, "encoder": "org/name", **changes}
        )
        settled, notes = apply_declarations(model, folder)
        return settled, "\n".join(notes)

    return settle


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_max_tokens": True, "include_prompt": True}, "max"),
        ({"pooling_mode": "cls", "embedding_dimension": 8}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
    ],
)
def test_the_declared_pooling_is_taken_in_either_spelling(tmp_path, settle, settings, pooling):
    write(tmp_path, modules=modules("Pooling"))
    write(tmp_path / "1_Pooling", config=settings)
    settled, notes = settle(tmp_path)
    assert settled.pooling == pooling
    assert settled.normalize is False
    assert f"as it declares: pooling={pooling}" in notes


@pytest.mark.parametrize("mode", ["lasttoken", "weightedmean", ["mean", "max"]])
def test_a_pooling_that_is_not_computed_is_refused_unless_another_is_given(tmp_path, settle, mode):
    write(tmp_path, modules=modules("Pooling"))
    write(tmp_path / "1_Pooling", config={"pooling_mode": mode})
    named = mode if isinstance(mode, str) else "mean.max"
    with pytest.raises(UserError, match=rf"org/name declares pooling={named}"):
        settle(tmp_path)
    settled, notes = settle(tmp_path, pooling="cls")
    assert settled.pooling == "cls"
    assert "model.pooling=cls is taken" in notes


def test_another_pooling_than_declared_is_taken_and_said(tmp_path, settle):
    write(tmp_path, modules=modules("Pooling", "Normalize"))
    write(tmp_path / "1_Pooling", config={"pooling_mode_cls_token": True})
    settled, notes = settle(tmp_path, pooling="mean", normalize=False)
    assert (settled.pooling, settled.normalize) == ("mean", False)
    assert notes == "org/name declares pooling=cls, and model.pooling=mean is taken"


def test_an_encoder_that_declares_nothing_gets_the_mean_and_that_is_said(tmp_path, settle):
    settled, notes = settle(tmp_path)
    assert (settled.pooling, settled.prompt, settled.normalize) == ("mean", "", False)
    assert notes == "org/name declares no pooling: model.pooling=mean is taken"


def test_length_1_is_taken_over_and_layers_after_pooling_are_not(tmp_path, settle):
    write(tmp_path, modules=modules("Pooling", "Dense", "Normalize"))
    write(tmp_path / "1_Pooling", config={"pooling_mode": "mean"})
    settled, notes = settle(tmp_path)
    assert settled.normalize is True
    assert "Dense layers" in notes


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"prompts": {"query": "", "document": ""}}, ""),
        ({"prompts": {"query": "q: ", "classification": "c: "}}, "c: "),
        ({"prompts": {"Classification": "C: "}, "default_prompt_name": "query"}, "C: "),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "query"}, "q: "),
        ({"prompts": ["q: "], "default_prompt_name": ["query"]}, ""),
        ({"prompts": {"classification": 3, "query": None}, "default_prompt_name": "query"}, ""),
        ({"prompts": None}, ""),
    ],
)
def test_the_prompt_for_classification_is_taken_or_else_the_default(
    tmp_path, settle, usage, prompt
):
    write(tmp_path, config_sentence_transformers=usage)
    assert settle(tmp_path)[0].prompt == prompt
    assert settle(tmp_path, prompt="mine ")[0].prompt == "mine "


def test_prompts_for_other_purposes_are_said(tmp_path, settle):
    write(tmp_path, config_sentence_transformers={"prompts": {"query": "q", "passage": "p"}})
    assert "prompts for query, passage, none for classification" in settle(tmp_path)[1]


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "bert", "max_position_embeddings": 64, "pad_token_id": 0}, 64),
        ({"model_type": "mpnet", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 66}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": None}, 64),
        ({"model_type": "t5"}, None),
        ({"max_position_embeddings": "64"}, None),
        ({"model_type": "deberta-v2", "max_position_embeddings": -1}, None),
    ],
)
def test_the_length_is_clamped_to_the_positions_that_there_are(tmp_path, settle, config, positions):
    write(tmp_path, config=config)
    settled, notes = settle(tmp_path)
    assert settled.max_length == (positions or 128)
    assert ("at most 64 tokens: model.max_length=128 is 64 now" in notes) == bool(positions)
    assert settle(tmp_path, max_length=32)[0].max_length == 32


def test_a_length_beyond_that_of_the_training_is_taken_and_said(tmp_path, settle):
    write(tmp_path, sentence_bert_config={"max_seq_length": 100, "do_lower_case": False})
    write(tmp_path, tokenizer_config={"model_max_length": int(1e30)})
    settled, notes = settle(tmp_path)
    assert settled.max_length == 128
    assert "trained on at most 100 tokens" in notes
    assert "trained on" not in settle(tmp_path, max_length=100)[1]


@pytest.mark.parametrize("content", ["{", "[", "", "\xff", "[1]", '"text"', "3"])
@pytest.mark.parametrize("name", ["modules", "config", "sentence_bert_config"])
def test_damaged_files_are_one_message(tmp_path, name, content):
    (tmp_path / f"{name}.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=f"{name}.json"):
        read_declarations(tmp_path)


def test_the_bundled_encoder_is_used_as_it_declares(tiny_config):
    model = tiny_config("model=minilm").model
    settled, notes = as_declared(model)
    assert (settled, notes) == (model, [])
    left_open = model.model_copy(update=OPEN | {"max_length": 600})
    settled, notes = as_declared(left_open)
    assert (settled.pooling, settled.prompt, settled.normalize) == ("mean", "", True)
    assert settled.max_length == 512
    assert "at most 256 tokens" in "".join(notes)


def test_a_random_encoder_declares_nothing(tiny_config):
    model = tiny_config().model.model_copy(update=OPEN)
    settled, notes = as_declared(model)
    assert (settled.pooling, settled.prompt, settled.normalize, notes) == ("mean", "", False, [])


def test_the_prompt_and_small_letters_become_part_of_the_tokenizer(tmp_path):
    words = {word: number for number, word in enumerate(["[UNK]", "query", "apple", "pear"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    adapt_tokenizer(tokenizer, tmp_path, "")
    assert tokenizer.normalizer is None
    assert tokenizer.encode("Apple pear").ids == [0, 3]
    tokenizer.normalizer = normalizers.NFC()
    write(tmp_path, sentence_bert_config={"do_lower_case": True})
    adapt_tokenizer(tokenizer, tmp_path, "Query ")
    again = Tokenizer.from_str(tokenizer.to_str())
    assert again.encode("Apple pear").ids == [1, 2, 3]
