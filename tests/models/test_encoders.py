import re
import shutil
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models import encoders
from tagger.models.bert import BertEncoder
from tagger.models.encoders import (
    encoder_layers,
    keep_layers,
    load_encoder,
    locate_encoder,
    read_encoder,
)
from tagger.models.transformer import TransformerClassifier


def test_bundled_minilm_is_verified_and_loaded(tiny_config):
    config = tiny_config("model=minilm").model
    encoder, tokenizer = load_encoder(config)
    assert encoder.config.hidden_size == 384
    assert len(encoder_layers(encoder)) == 6
    ids = tokenizer.encode("word " * 999).ids
    assert len(ids) == config.max_length


def test_minilm_sees_meaning(tiny_config):
    encoder, tokenizer = load_encoder(tiny_config("model=minilm").model)

    def vector(text):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return torch.nn.functional.normalize(states.mean(1), dim=-1)[0]

    query, near, far = map(vector, ("object detection", "finding things in images", "tax law"))
    assert query @ near > query @ far + 0.1


def test_other_weights_than_pinned_are_refused(tiny_config):
    config = tiny_config("model=minilm", "model.sha256=" + "0" * 64).model
    with pytest.raises(UserError, match=r"sha256 53aa51.*expected 0000"):
        load_encoder(config)


def test_missing_package_says_what_to_install(tiny_config):
    config = tiny_config("model=minilm", "model.encoder=package:no_such_package_here").model
    with pytest.raises(UserError, match=r"pip install -r requirements\.txt"):
        locate_encoder(config)


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_missing_folder_is_not_taken_for_a_hub_id(tiny_config, path):
    config = tiny_config("model=minilm", f"model.encoder={path}").model
    with pytest.raises(UserError, match="no folder"):
        load_encoder(config)


def test_hub_id_without_a_network_says_what_to_do(tiny_config, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True)
    config = tiny_config("model=hub", "model.encoder=nobody/no-such-encoder").model
    with pytest.raises(UserError, match=r"nobody/no-such-encoder.*\n.*model=minilm"):
        load_encoder(config)


def test_other_formats_than_safetensors_are_never_loaded(tmp_path, tiny_config, tiny_classifier):
    tiny_classifier.save(tmp_path)
    torch.save(tiny_classifier.module.encoder.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    config = tiny_config(f"model.encoder={tmp_path}", "model.random=null").model
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        load_encoder(config)


def test_random_encoder_follows_the_seed(tiny_config):
    def first_weight(seed):
        torch.manual_seed(seed)
        encoder, _ = load_encoder(tiny_config().model)
        return encoder.embeddings.word_embeddings.weight[1, 0].item()

    assert first_weight(1) == first_weight(1) != first_weight(2)


def test_pieces_are_joined_once_and_cached(tmp_path, monkeypatch, tiny_classifier):
    model = tmp_path / "all-mpnet-base-v2"
    tiny_classifier.save(model)
    archive = tmp_path / "whole.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in model.iterdir():
            zipped.write(file, f"{model.name}/{file.name}")
    content = archive.read_bytes()
    cuts = [content[i * len(content) // 5 : (i + 1) * len(content) // 5] for i in range(5)]
    for number, cut in enumerate(cuts, 1):
        (tmp_path / f"m.zip.{number:03d}").write_bytes(cut)

    class Piece:
        def __init__(self, path: Path) -> None:
            self.name, self.path = path.name, path

        def locate(self) -> Path:
            return self.path

    def files(package: str) -> list[Piece]:
        return [Piece(tmp_path / f"m.zip.{package[-3:]}")]

    monkeypatch.setenv("TAGGER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoders.metadata, "files", files)
    folder = encoders._joined_pieces("all-mpnet-base-v2")
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert [path.name for path in folder.parent.iterdir()] == ["all-mpnet-base-v2"]
    monkeypatch.setattr(encoders.metadata, "files", lambda _: [])
    assert encoders._joined_pieces("all-mpnet-base-v2") == folder
    shutil.rmtree(tmp_path / "cache")


def test_absent_pieces_say_how_to_get_them(tmp_path, monkeypatch, tiny_config):
    def absent(package: str) -> None:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setenv("TAGGER_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders.metadata, "files", absent)
    with pytest.raises(UserError, match=r"requirements-mpnet\.txt"):
        load_encoder(tiny_config("model=mpnet").model)


SHAPE = "model.random={layers: 4, hidden: 32, heads: 2, intermediate: 64}"
ITEMS = [Item("1", "alpha beta", "gamma"), Item("2", "one two three four", "")]
IDS = torch.tensor([[101, 7592, 2088, 102], [101, 2748, 2003, 102]])


@pytest.fixture
def four_layers(tiny_config):
    """An encoder of four layers, which differ widely."""
    torch.manual_seed(0)
    encoder, _ = load_encoder(tiny_config(SHAPE).model)
    for parameter in encoder_layers(encoder).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def states(encoder):
    with torch.inference_mode():
        return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [1, 3], [0], [3]])
def test_the_layers_that_are_named_stay_in_their_order(four_layers, kept):
    before, whole = list(encoder_layers(four_layers)), states(four_layers)
    keep_layers(four_layers, kept)
    after = list(encoder_layers(four_layers))
    assert len(after) == four_layers.config.num_hidden_layers == len(kept)
    assert all(layer is before[number] for layer, number in zip(after, kept, strict=True))
    assert torch.equal(states(four_layers), whole) == (len(kept) == 4)


def test_fewer_layers_compute_what_they_would_beside_layers_that_do_nothing(four_layers):
    """What is left out passes on what it is given, as if it were not there."""
    hidden = []
    hook = encoder_layers(four_layers)[2].register_forward_hook(
        lambda layer, inputs, output: hidden.append(output)
    )
    states(four_layers)
    hook.remove()
    keep_layers(four_layers, [0, 1, 2])
    torch.testing.assert_close(states(four_layers), hidden[0])


@pytest.mark.parametrize(("kept", "absent"), [([1, 4], 4), ([7, 9], 7)])
def test_a_layer_that_is_not_there_is_refused(four_layers, kept, absent):
    message = re.escape(f"model.keep_layers={kept}: there is no layer {absent}")
    with pytest.raises(UserError, match=message) as caught:
        keep_layers(four_layers, kept)
    assert caught.value.hint == "The encoder has 4 layers, counted from 0."
    assert len(encoder_layers(four_layers)) == 4


def test_layers_of_an_encoder_of_the_library_are_kept_too(tmp_path):
    config = DistilBertConfig(vocab_size=8000, dim=32, n_layers=3, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path / "whole")
    encoder = read_encoder(tmp_path / "whole").eval()
    assert not isinstance(encoder, BertEncoder)
    keep_layers(encoder, [0, 2])
    encoder.save_pretrained(tmp_path / "student")
    again = read_encoder(tmp_path / "student").eval()
    assert len(encoder_layers(again)) == 2
    torch.testing.assert_close(states(again), states(encoder))


def test_a_student_is_saved_and_loaded(tmp_path, tiny_config):
    torch.manual_seed(0)
    config = tiny_config(SHAPE, "model.keep_layers=[0,3]").model
    student = TransformerClassifier.build(config, ["a", "b"])
    assert len(encoder_layers(student.module.encoder)) == 2
    student.save(tmp_path)
    loaded = TransformerClassifier.load(tmp_path)
    assert len(encoder_layers(loaded.module.encoder)) == 2
    np.testing.assert_array_equal(loaded.predict_proba(ITEMS), student.predict_proba(ITEMS))
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(
        states(theirs), states(student.module.encoder.eval()), atol=1e-5, rtol=1e-4
    )


def test_a_student_of_the_real_encoder_has_its_layers(tiny_config):
    teacher, _ = load_encoder(tiny_config("model=minilm").model)
    student = TransformerClassifier.build(tiny_config("model=student").model, ["a", "b"])
    mine, its = encoder_layers(student.module.encoder), encoder_layers(teacher)
    assert len(mine) == 3
    for layer, number in zip(mine, [1, 3, 5], strict=True):
        for name, weights in layer.state_dict().items():
            assert torch.equal(weights, its[number].state_dict()[name])


def test_frozen_layers_are_counted_among_those_that_stay(tiny_config):
    given = [SHAPE, "model.keep_layers=[1,3]", "model.freeze_layers=1"]
    built = TransformerClassifier.build(tiny_config(*given).model, ["a", "b"])
    trained = [
        all(p.requires_grad for p in layer.parameters())
        for layer in encoder_layers(built.module.encoder)
    ]
    assert trained == [False, True]
    with pytest.raises(UserError, match="freeze_layers=3, but the encoder has 2 layers"):
        TransformerClassifier.build(
            tiny_config(*given[:2], "model.freeze_layers=3").model, ["a", "b"]
        )
