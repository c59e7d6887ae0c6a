from pathlib import Path

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.paths import with_portable_paths
from tagger.config.saved import load_saved_config, save_config, write_yaml
from tagger.config.schema import TrainConfig
from tagger.errors import UserError


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=frozen", "decision.policy=conformal", "data.extra=[one.csv,'ü $.jsonl']"),
        ("data.more=[data/gold.csv,'ö.csv']", "decision.scope=per_source"),
        ("model=ensemble", "model.runs=[one,two]"),
        ("data.split.group=off", "training.lr=1e-7", "data.columns={title: headline}"),
    ],
)
def test_a_saved_config_is_the_same_when_it_is_read(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = load_config(TrainConfig, compose_config("train", overrides))
    save_config(config, tmp_path / "config.yaml")
    stored = TrainConfig.model_validate(with_portable_paths(config.model_dump()))
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == stored


def test_a_config_of_before_there_were_several_files_is_of_one(tmp_path: Path) -> None:
    config = load_config(TrainConfig, compose_config("train", []))
    plain = with_portable_paths(config.model_dump())
    del plain["data"]["more"]
    write_yaml(plain, tmp_path / "config.yaml")
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml").data.more == []


def test_what_looks_like_a_reference_in_a_saved_path_is_text(tmp_path: Path) -> None:
    given = ["name=run-1", "data.path='/tmp/ü \\${x} ???: #1.csv'"]
    config = load_config(TrainConfig, compose_config("train", ["data=file", *given]))
    save_config(config, tmp_path / "config.yaml")
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == config
    assert "${x}" in str(config.data.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "a mapping was expected"),
        ("", "a mapping was expected"),
        ("a: [", "is not yaml"),
        ("a: 2020-99-99", "is not yaml"),
        (b"name: \xff\xfe", "is not yaml"),
        ("name: x\nfoo: 1\n", "foo: no such key"),
        ("name: x\n", "seed: must be given"),
    ],
)
def test_a_damaged_saved_config_is_named(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        load_saved_config(TrainConfig, path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_saved_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        load_saved_config(TrainConfig, tmp_path / "config.yaml")
