import shutil
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

from tagger.errors import UserError
from tagger.models import encoders
from tagger.models.encoders import encoder_layers, load_encoder, locate_encoder


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
