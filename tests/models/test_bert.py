import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel

from tagger.errors import UserError
from tagger.models.bert import LONG, BertEncoder, is_supported
from tagger.models.encoders import fuse_attention, locate_encoder, read_encoder

IDS = torch.tensor([[101, 7592, 2088, 102], [101, 2748, 102, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(scope="module")
def reference_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reference")
    config = BertConfig(
        vocab_size=8000, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=96, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def states(encoder):
    with torch.inference_mode():
        return encoder.eval()(input_ids=IDS, attention_mask=MASK).last_hidden_state


def test_computes_what_transformers_computes(reference_folder):
    ours, theirs = read_encoder(reference_folder), AutoModel.from_pretrained(reference_folder)
    assert isinstance(ours, BertEncoder)
    visible = MASK.bool()
    torch.testing.assert_close(states(ours)[visible], states(theirs)[visible], atol=2e-5, rtol=1e-4)


def test_gradients_are_those_of_transformers(reference_folder):
    grown = []
    for encoder in (read_encoder(reference_folder), AutoModel.from_pretrained(reference_folder)):
        encoder.eval()
        output = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
        output[MASK.bool()].pow(3).sum().backward()
        grown.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    assert grown[0].keys() == {name for name in grown[1] if "pooler" not in name}
    for name, gradient in grown[0].items():
        torch.testing.assert_close(gradient, grown[1][name], atol=2e-3, rtol=1e-3, msg=name)


def test_the_real_encoder_agrees_too(tiny_config):
    folder = locate_encoder(tiny_config("model=minilm").model)
    ours, theirs = read_encoder(folder), AutoModel.from_pretrained(folder)
    visible = MASK.bool()
    torch.testing.assert_close(states(ours)[visible], states(theirs)[visible], atol=2e-5, rtol=1e-4)


def test_long_texts_are_computed_by_fused_attention_where_that_is_asked_for(
    reference_folder, monkeypatch
):
    encoder = read_encoder(reference_folder).eval()
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *inputs, **named: calls.append(1) or fused(*inputs, **named),
    )
    written_out = {}
    for turn in (False, True):
        if turn:
            fuse_attention(encoder)
        for tokens in (LONG, LONG + 1):
            ids = torch.arange(2 * tokens).reshape(2, tokens) % 7000
            mask = torch.ones_like(ids)
            mask[1, 100:] = 0
            with torch.inference_mode():
                output = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
            expected = written_out.setdefault(tokens, output)
            torch.testing.assert_close(output, expected, atol=2e-5, rtol=1e-4)
            if tokens == LONG:
                assert torch.equal(output, expected)
    assert len(calls) == 3, "one layer each of the long texts"


def test_padding_changes_nothing(reference_folder):
    encoder = read_encoder(reference_folder).eval()
    with torch.inference_mode():
        alone = encoder(input_ids=IDS[1:, :3], attention_mask=MASK[1:, :3]).last_hidden_state
    torch.testing.assert_close(states(encoder)[1:, :3], alone, atol=1e-5, rtol=1e-4)


def test_what_is_saved_is_read_by_transformers(reference_folder, tmp_path):
    ours = read_encoder(reference_folder)
    ours.save_pretrained(tmp_path)
    _, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert all("pooler" in key for key in report["missing_keys"])
    torch.testing.assert_close(states(read_encoder(tmp_path)), states(ours))


def test_weights_under_a_prefix_are_found(reference_folder, tmp_path):
    weights = load_file(reference_folder / "model.safetensors")
    save_file({f"bert.{name}": w for name, w in weights.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((reference_folder / "config.json").read_bytes())
    torch.testing.assert_close(
        states(read_encoder(tmp_path)), states(read_encoder(reference_folder))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "relu"},
        {"model_type": "roberta"},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_other_architectures_are_left_to_transformers(reference_folder, change):
    settings = json.loads((reference_folder / "config.json").read_text())
    assert is_supported(settings)
    assert not is_supported(settings | change)


def test_other_encoders_come_through_transformers(tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=8000, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path)
    encoder = read_encoder(tmp_path)
    assert not isinstance(encoder, BertEncoder)
    assert states(encoder).shape == (2, 4, 32)


def test_a_missing_weight_is_named(reference_folder, tmp_path):
    weights = load_file(reference_folder / "model.safetensors")
    del weights["embeddings.LayerNorm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((reference_folder / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"lacks 'embeddings\.LayerNorm\.weight'"):
        read_encoder(tmp_path)


@pytest.mark.slow
def test_neither_transformers_nor_a_compiler_is_imported_for_bert():
    import subprocess
    import sys

    code = (
        "import sys, tagger.training.train_run\n"
        "from tagger.models.encoders import BUNDLED_TOKENIZER, _package_folder, read_encoder\n"
        "read_encoder(_package_folder(BUNDLED_TOKENIZER))\n"
        "sys.exit('transformers' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
