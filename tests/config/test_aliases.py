from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tagger.config.aliases import CHOICES, REMOVED, RENAMED, upgrade_keys
from tagger.config.composition import compose_config, config_groups, load_config
from tagger.config.messages import schema_keys
from tagger.config.saved import load_saved_config
from tagger.config.schema import SCHEMAS, TrainConfig
from tagger.errors import UserError


def test_the_table_is_about_keys_and_choices_that_there_are() -> None:
    keys = {key for schema in SCHEMAS.values() for key in schema_keys(schema)}
    assert set(RENAMED.values()) <= keys
    assert not {*RENAMED, *REMOVED} & keys - {"distill.class_loss_weight"}
    groups = {**config_groups("train"), **config_groups("export")}
    for (group, before), now in CHOICES.items():
        assert now in groups[group]
        assert before not in groups[group]


def test_values_keep_their_place_and_what_asked_for_nothing_goes_silently() -> None:
    before = {"model": {"strength": 2.0, "name": "x"}, "training": {"mixup": 0.0, "r_drop": 0.5}}
    upgraded, renamed, dropped = upgrade_keys(before)
    assert upgraded == {"model": {"C": 2.0, "name": "x"}, "training": {}}
    assert renamed == ["model.strength is model.C"]
    assert dropped == ["training.r_drop=0.5"]
    assert before["model"] == {"strength": 2.0, "name": "x"}


def test_values_are_renamed_too() -> None:
    upgraded, _, _ = upgrade_keys({"decision": {"novelty": "neighbours"}})
    assert upgraded == {"decision": {"ood": "knn"}}


def test_an_override_by_an_earlier_name_is_taken_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["training.precision=fp32", "model=fast"]
    config = load_config(TrainConfig, compose_config("train", given))
    assert config.training.mixed_precision == "fp32"
    assert config.model.name == "two-layer"
    assert capsys.readouterr().err.splitlines() == [
        "note: training.precision=fp32 is training.mixed_precision=fp32 now",
        "note: model=fast is model=two-layer now",
    ]


def write_experiment(path: Path, training: dict[str, object]) -> Path:
    path.write_text("# @package _global_\n" + yaml.safe_dump({"training": training}))
    return path


def test_an_experiment_with_earlier_names_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path / "old.yaml", {"average_decay": 0.9, "mixup": 0.0})
    config = load_config(TrainConfig, compose_config("train", [f"experiment={path}"]))
    assert config.training.ema_decay == 0.9
    shown = capsys.readouterr().err
    assert shown == "note: keys were renamed: training.average_decay is training.ema_decay\n"


def test_a_key_that_is_no_more_is_refused_where_it_asks_for_something(tmp_path: Path) -> None:
    path = write_experiment(tmp_path / "old.yaml", {"mixup": 0.2})
    with pytest.raises(UserError, match=r"training\.mixup=0\.2: there is no such key any more"):
        compose_config("train", [f"experiment={path}"])


def test_a_saved_config_with_earlier_names_is_read(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config()
    plain = config.model_dump()
    plain["training"]["average_decay"] = plain["training"].pop("ema_decay")
    plain["training"]["r_drop"] = 0.3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == config


def test_an_override_of_a_key_that_is_no_more_is_told_so() -> None:
    with pytest.raises(UserError, match=r"training\.mixup: there is no such key any more"):
        compose_config("train", ["training.mixup=0.2"])
