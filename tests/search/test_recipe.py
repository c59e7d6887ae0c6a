from functools import cache
from pathlib import Path

import pytest
import yaml

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.search.recipe import write_experiment

pytestmark = pytest.mark.slow


@cache
def config_of(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", overrides))


def read_back(text: str, folder: Path) -> TrainConfig:
    path = folder / "best.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(TrainConfig, compose_config("train", [f"experiment={path}"]))


def content_of(text: str) -> dict[str, object]:
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    return content


FILE = ("data=file", "data.name=toy")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=both"],
        ["experiment=setfit", "model=mpnet", "decision=conformal"],
        ["model=tiny", "model.random.layers=3", "training.mixed_precision=fp32"],
        ["model=tiny", "model.random=null", "model.encoder=some/folder"],
        ["model=student", "model.keep_layers=[0,2]"],
        ["model=student", "model.keep_layers=null", "model.encoder_dropout=null"],
        ["model=minilm", "model.keep_layers=[5]", "model.name=half"],
        ["model=linear", "model.balanced=false", "model.C=0.05"],
        ["model=frozen", "model.encoder=package:other", "model.sha256=null"],
        ["model=rules", "model.rules='my rules: #1.yaml'"],
        ["model=ensemble", "model.runs=[one,two,'drei ü']"],
        ["model=hub", "model.encoder=org/name", "model.revision='0123456'"],
        ["decision=threshold", "decision.scope=per_tag", "decision.folds=null"],
        ["decision.policy=conformal", "decision.alpha=0.2"],
        ["data=mwml", "data.extra=[repo:data/gold.csv,'sätze.jsonl']", "data.extra_weight=0.5"],
        [*FILE, "data.path='/tmp/größe/äöü 漢字: #1.csv'", "data.columns={title: headline}"],
        [*FILE, "data.path=x.csv", "data.split.folds=5", "data.split.fold=0"],
        ["training.lr=1e-7", "training.patience=3", "training.ema_decay=0.25"],
        ["training.lr=0.00012345678901234567", "training.threads=2", "training.typos=0"],
    ],
)  # fmt: skip
def test_the_file_makes_the_same_config(overrides: list[str], tmp_path: Path) -> None:
    config = config_of(*overrides)
    assert read_back(write_experiment(config, ["About it."]), tmp_path) == config


@pytest.mark.parametrize(
    "text", ["a ${b}.csv", "${oc.env:HOME}.csv", "1e5", "null", "2024", "yes", "a\\b", "x: y"]
)
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    """What yaml or Hydra would read as something else: a reference, a number, nothing."""
    config = config_of(*FILE, "data.path=x.csv")
    config = config.model_copy(update={"data": config.data.model_copy(update={"hub_split": text})})
    assert read_back(write_experiment(config, []), tmp_path) == config


def test_what_is_not_of_the_recipe_is_left_out(tmp_path: Path) -> None:
    config = config_of(
        "name=one", "runs_dir=elsewhere", "seed=7", "tracking=wandb", "if_exists=replace",
        "training.epochs=2",
    )  # fmt: skip
    text = write_experiment(config, [])
    assert content_of(text).keys() == {"defaults", "training"}
    assert read_back(text, tmp_path) == config_of("training.epochs=2")


@pytest.mark.parametrize(
    ("overrides", "choices", "changed"),
    [
        ([], ["gold", "minilm", "default", "argmax"], {}),
        (
            ["model=student", "training.lr=0.001", "decision=threshold"],
            ["gold", "student", "default", "threshold"],
            {"training": {"lr": 0.001}},
        ),
        (
            ["data=mwml", "model=tiny", "model.random.layers=3", "data.split.test=0.3"],
            ["mwml", "tiny", "default", "argmax"],
            {"model": {"random": {"layers": 3}}, "data": {"split": {"test": 0.3}}},
        ),
        (
            ["model=minilm", "model.keep_layers=[1,3,5]", "model.name=student"],
            ["gold", "student", "default", "argmax"],
            {},
        ),
    ],
)
def test_it_names_the_nearest_choices_and_what_is_other_than_there(
    overrides: list[str], choices: list[str], changed: dict[str, object]
) -> None:
    content = content_of(write_experiment(config_of(*overrides), []))
    groups = ("data", "model", "training", "decision")
    assert content.pop("defaults") == [
        {f"override /{group}": choice} for group, choice in zip(groups, choices, strict=True)
    ]
    assert content == changed


def test_the_comment_stands_at_the_head() -> None:
    text = write_experiment(config_of(), ["Trial 3: größer.", "python train.py"])
    assert text.splitlines()[:3] == [
        "# @package _global_", "# Trial 3: größer.", "# python train.py",
    ]  # fmt: skip


def test_the_command_line_lies_over_it(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(
        write_experiment(config_of("model=tiny", "training.lr=0.001"), []), encoding="utf-8"
    )
    config = config_of("training.lr=0.002", f"experiment={path}", "model=linear", "seed=3")
    assert config == config_of("model=linear", "training.lr=0.002", "seed=3")
