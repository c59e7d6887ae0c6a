import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tagger.config.composition import (
    CONFIG_DIR,
    WHERE_TO_LOOK,
    compose_config,
    config_groups,
    load_config,
    with_source,
)
from tagger.config.messages import schema_keys
from tagger.config.overrides import quoted
from tagger.config.paths import with_portable_paths
from tagger.config.saved import load_saved_config, save_config
from tagger.config.schema import (
    APPROACHES,
    SCHEMAS,
    DataConfig,
    DecisionConfig,
    EnsembleConfig,
    EvaluateConfig,
    FrozenConfig,
    LinearConfig,
    OptimizeConfig,
    RulesConfig,
    Section,
    TrainConfig,
    TransformerConfig,
)
from tagger.errors import UserError
from tagger.files import REPO_ROOT

# What a choice can't know and the user must give.
NEEDED = {
    "data/file": ["data.path=x.csv"],
    "data/hub": ["data.hub_id=org/name"],
    "model/hub": ["model.encoder=org/name"],
    "model/ensemble": ["model.runs=[one,two]"],
    "distill/soft": ["distill.teachers=[one]"],
    "experiment/student-balanced": ["distill.teachers=[one]"],
    "experiment/student-two-layer": ["distill.teachers=[one]"],
    "experiment/student-static": ["distill.teachers=[one]"],
}
YAML_FILES = sorted(
    path.relative_to(CONFIG_DIR).with_suffix("").as_posix() for path in CONFIG_DIR.rglob("*.yaml")
)


def train_config(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", overrides))


def mistakes(name: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        compose_config(name, overrides)
    return caught.value.problems


def run_script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO_ROOT / arguments[0]), *arguments[1:]],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_choices_for_every_group() -> None:
    assert len(YAML_FILES) > 10
    groups = config_groups("train")
    assert set(groups) == {
        "data", "model", "training", "distill", "decision", "tracking", "experiment"
    }  # fmt: skip
    assert all(groups.values())
    assert set(config_groups("evaluate")) == {"data", "decision"}
    assert set(config_groups("optimize")) == set(groups) | {"search"}
    assert set(config_groups("export")) == {"compress"}


@pytest.mark.parametrize("file", YAML_FILES)
def test_every_yaml_composes_and_validates(file: str) -> None:
    if file in SCHEMAS:
        needed = ["run=x"] if file in ("evaluate", "export") else []
        compose_config(file, needed)
        return
    group, choice = file.split("/")
    if group == "compress":
        config = compose_config("export", ["run=x", f"compress={choice}"])
        assert config.compress.name == choice
        return
    script = "optimize" if group == "search" else "train"
    compose_config(script, [f"{group}={choice}", *NEEDED.get(file, [])])
    if group in config_groups("evaluate"):
        config = compose_config("evaluate", ["run=x", f"{group}={choice}", *NEEDED.get(file, [])])
        assert getattr(load_config(EvaluateConfig, config), group) is not None


@pytest.mark.parametrize("file", sorted(NEEDED))
def test_a_choice_without_what_it_needs_is_refused(file: str) -> None:
    group, choice = file.split("/")
    assert len(mistakes("train", f"{group}={choice}")) == 1


def test_every_schema_key_is_in_some_yaml() -> None:
    written: set[str] = set()

    def collect(value: object, prefix: str) -> None:
        for key, below in value.items() if isinstance(value, dict) else ():
            written.add(f"{prefix}{key}")
            collect(below, f"{prefix}{key}.")

    for file in YAML_FILES:
        content = yaml.safe_load((CONFIG_DIR / f"{file}.yaml").read_text(encoding="utf-8"))
        group = "" if file in SCHEMAS or "experiment" in file else file.split("/")[0] + "."
        collect(content, group)
    needs_no_file = {"model", "training", "tracking", "compress"}  # groups as such
    for schema in SCHEMAS.values():
        missing = set(schema_keys(schema)) - written - needs_no_file
        assert not missing


def test_the_defaults_are_the_types_that_the_code_reads() -> None:
    config = train_config()
    assert isinstance(config.data, DataConfig)
    assert isinstance(config.training.lr, float)
    assert isinstance(config.model, TransformerConfig)
    assert isinstance(config.decision, DecisionConfig)
    evaluate = load_config(EvaluateConfig, compose_config("evaluate", ["run=x"]))
    assert evaluate.data is evaluate.decision is None


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("minilm", TransformerConfig),
        ("tiny", TransformerConfig),
        ("frozen", FrozenConfig),
        ("linear", LinearConfig),
        ("rules", RulesConfig),
        ("ensemble", EnsembleConfig),
    ],
)
def test_the_approach_decides_what_a_model_is(choice: str, kind: type[Section]) -> None:
    config = train_config(f"model={choice}", *NEEDED.get(f"model/{choice}", []))
    assert type(config.model) is kind
    assert config.model.name == choice


def test_there_is_a_choice_for_every_approach() -> None:
    choices = config_groups("train")["model"]
    given = [train_config(f"model={one}", *NEEDED.get(f"model/{one}", [])) for one in choices]
    assert {config.model.approach for config in given} == set(APPROACHES)


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("training.lrr=1", "training.lr"),
        ("+training.lrr=1", "training.lr"),
        ("++training.lrr=1", "training.lr"),
        ("modle=tiny", "model"),
        ("data.split.tset=0.2", "data.split.test"),
        ("lr=1", "training.lr"),
        ("sede=3", "seed"),
        ("if_exist=resume", "if_exists"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(override: str, name: str) -> None:
    key = override.lstrip("+").split("=")[0]
    assert mistakes("train", override) == (f"{key}: no such key (did you mean {name}?)",)


@pytest.mark.parametrize("override", ["+foo=1", "++foo.bar=2", "seed.x=1", "training.a.b.c=1"])
def test_an_unknown_key_like_no_other_is_refused(override: str) -> None:
    assert "no such key" in mistakes("train", override)[0]


def test_grouping_is_turned_off_with_and_without_quotes(tmp_path: Path) -> None:
    """Without quotes, YAML takes `off` for a boolean."""
    path = tmp_path / "off.yaml"
    path.write_text("# @package _global_\ndata:\n  split:\n    group: off\n")
    for override in ("data.split.group=off", "data.split.group='off'", f"experiment={path}"):
        config = load_config(TrainConfig, compose_config("train", [override]))
        assert config.data.split.group == "off"
        save_config(config, tmp_path / "config.yaml")
        assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == stored(config)
    with pytest.raises(UserError, match=r"data\.split\.group: found 'some'"):
        compose_config("train", ["data.split.group=some"])


def test_a_key_of_the_other_script_is_unknown() -> None:
    assert mistakes("evaluate", "run=x", "model=tiny", "training.lr=1") == (
        "model: no such key",
        "training.lr: no such key",
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1.5", "seed: found 1.5, expected integer"),
        ("seed=-1", "seed: found -1, expected greater than or equal to 0"),
        ("seed=2147483648", "seed: found 2147483648, expected less than 2147483648"),
        ("seed=true", "seed: found True, expected integer"),
        ("seed='1'", "seed: found '1', expected integer"),
        ("seed=null", "seed: must be given"),
        ("training.lr=0", "training.lr: found 0, expected greater than 0"),
        ("training.lr=nan", "training.lr: found nan"),
        ("training.lr=fast", "training.lr: found 'fast', expected number"),
        (
            "training.mixed_precision=fp16",
            "training.mixed_precision: found 'fp16', expected 'auto', 'fp32'",
        ),
        ("model.freeze_embeddings=yes please", "model.freeze_embeddings: found 'yes please'"),
        ("name=../elsewhere", "name: found '../elsewhere'"),
        ("name=2024", "name: found 2024, expected string (as text: \"name='2024'\")"),
        ("data.sha256=abc", "data.sha256: found 'abc'"),
        ("data.columns={titel: x}", "data: `columns` gives a column for titel, but the fields"),
        ("data.split.test=0.9", "data.split: validation=0.15 and test=0.9 leave nothing"),
        ("data.split.folds=5", "data.split: `folds` and `fold` go together"),
        ("model.encoder=random", "model: `random` (a shape) is given exactly when"),
        ("model.head=mlp", "training.head_init=probe needs model.head=linear"),
        ("model.approach=magic", "model: found {'approach': 'magic'"),
        ("data.extra=x.csv", "data.extra: found 'x.csv', expected list"),
        ("data.extra_weight=0", "data.extra_weight: found 0, expected greater than 0"),
        (
            "decision.target_precision=1.0",
            "decision.target_precision: found 1.0, expected less than 1",
        ),
        ("decision.policy=vote", "decision.policy: found 'vote', expected 'argmax', 'threshold'"),
        ("decision.folds=1", "decision.folds: found 1, expected greater than or equal to 2"),
        ("training.threads=???", "training.threads: must be given"),
        ("model.keep_neurons=0", "model.keep_neurons: found 0, expected greater than or equal to"),
        (
            "model.vocabulary_from=[]",
            "model.vocabulary_from: found [], List should have at least 1 item",
        ),
        ("model.static=2", "model.static: found 2, expected greater than or equal to 8"),
    ],
)
def test_a_wrong_value_is_named(override: str, message: str) -> None:
    (problem,) = mistakes("train", override)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.temperature=0", "distill.temperature: found 0, expected greater than 0"),
        (
            "distill.class_loss_weight=-1",
            "distill.class_loss_weight: found -1, expected greater than or equal to 0",
        ),
        ("distill.transfer=x.csv", "distill.transfer: found 'x.csv', expected list"),
        ("distill.transfer_most=0", "distill.transfer_most: found 0, expected greater than or"),
        ("distill.transfer_weight=0", "distill.transfer_weight: found 0, expected greater than 0"),
        ("distill.tempreature=2", "distill.tempreature: no such key (did you mean distill.temp"),
    ],
)
def test_a_wrong_value_of_a_distillation_is_named(override: str, message: str) -> None:
    (problem,) = mistakes("train", "distill=soft", "distill.teachers=[one]", override)
    assert problem.startswith(message)


def test_without_a_distillation_its_keys_have_no_place() -> None:
    assert train_config().distill is None
    (problem,) = mistakes("train", "distill.soft_loss_weight=1")
    assert problem.startswith("distill: lacks teachers, ")
    assert problem.endswith("; choose distill=CHOICE first")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=linear", "model.word_ngrams=9"], "model.word_ngrams: found 9, expected less"),
        (["model=linear", "model.pooling=cls"], "model.pooling: the chosen model has no such key"),
        (["model=rules", "model.rules=''"], "model.rules: found '', "),
        (["model=frozen", "model.C=0"], "model.C: found 0, expected greater than 0"),
        (["model=frozen", "model.random={layers: 1, hidden: 8, heads: 1, intermediate: 8}"],
         "model: `random` (a shape) is given exactly when"),
        (["model=ensemble", "model.runs=[one]"], "model.runs: found ['one'], "),
    ],
)  # fmt: skip
def test_a_wrong_value_of_another_approach_is_named_by_its_key(
    overrides: list[str], message: str
) -> None:
    (problem,) = mistakes("train", *overrides)
    assert problem.startswith(message)


ENSEMBLE = ("model=ensemble", "model.runs=[one,two]")
NO_VALIDATION = "data.split.validation=0"
TAUGHT = ["distill=soft", "distill.teachers=[one]"]
STATIC = ["model.static=64", "model.freeze_embeddings=false"]


# Each is refused with the first overrides and taken with those that follow.
@pytest.mark.parametrize(
    ("refused", "message", "taken"),
    [
        (
            ["decision.ood=knn", "model=linear"],
            "decision.ood=knn needs a model with an encoder, and approach=linear has none",
            ["decision.ood=knn", "model=frozen"],
        ),
        (
            ["decision.ood=mahalanobis", "model=rules"],
            "decision.ood=mahalanobis needs a model with an encoder, and approach=rules has none",
            ["decision.ood=mahalanobis", "model=tiny"],
        ),
        (
            ["decision.ood=knn", *ENSEMBLE],
            "decision.ood=knn needs a model with an encoder, and approach=ensemble has none",
            ["decision.ood=none", *ENSEMBLE],
        ),
        (
            ["decision.policy=threshold", NO_VALIDATION],
            "decision.policy=threshold must be fitted to rows: give decision.folds=5, or "
            "data.split.validation above 0",
            ["decision.policy=threshold", NO_VALIDATION, "decision.folds=5"],
        ),
        (
            ["decision=conformal", "decision.folds=null", NO_VALIDATION],
            "decision.policy=conformal must be fitted to rows",
            ["decision=conformal", NO_VALIDATION],
        ),
        (
            ["decision=threshold", "decision.folds=null", "experiment=gold"],
            "decision.policy=threshold must be fitted to rows",
            ["decision.policy=argmax", NO_VALIDATION],
        ),
        (
            ["model.head=mlp", "training.head_init=probe"],
            "training.head_init=probe needs model.head=linear",
            ["model=linear", "training.head_init=probe"],
        ),
        (
            ["training.adversarial=0.1", "training.contrast_loss_weight=0.5"],
            "training: adversarial does not go with contrast_loss_weight: set one to 0",
            ["training.contrast_loss_weight=0.5"],
        ),
        (
            ["training.class_loss_weight=0"],
            "training: class_loss_weight and contrast_loss_weight are both 0",
            ["training.class_loss_weight=0", "training.contrast_loss_weight=1"],
        ),
        (
            ["model.vocabulary_size=100"],
            "model: `vocabulary_size` is counted in `vocabulary_from`: give files there",
            ["model.vocabulary_size=100", "model.vocabulary_from=[x.csv]"],
        ),
        (
            ["model.static=64"],
            "model: `static` has token vectors alone, all to be trained: freeze_embeddings=false",
            ["model.static=64", "model.freeze_embeddings=false"],
        ),
        (
            ["model.static=64", "model.pooling=cls", "model.freeze_layers=1"],
            "model: `static` has token vectors alone, all to be trained: pooling=mean, "
            "freeze_embeddings=false, freeze_layers=0",
            ["model.static=null", "model.pooling=cls", "model.freeze_layers=1"],
        ),
        (
            [*TAUGHT, "distill.soft_loss_weight=0"],
            "distill: `soft_loss_weight` (above 0) and `teachers` go together: give both",
            TAUGHT,
        ),
        (
            ["distill=source", "distill.soft_loss_weight=1"],
            "distill: `soft_loss_weight` (above 0) and `teachers` go together: give both",
            ["distill=source"],
        ),
        (
            ["distill=source", "distill.vector_loss_weight=0"],
            "distill: soft_loss_weight and vector_loss_weight are both 0: nothing is distilled",
            ["distill=source", "distill.vector_loss_weight=0.5"],
        ),
        *(
            (
                [f"model={choice}", *NEEDED.get(f"model/{choice}", []), "distill=source"],
                f"distill needs approach=transformer, found {choice}",
                ["model=tiny", "distill=source"],
            )
            for choice in ("frozen", "linear", "rules", "ensemble")
        ),
        (
            [*STATIC, "training.adversarial=0.1"],
            "training.adversarial needs layers, and model.static has none: set 0",
            ["model=tiny", "training.adversarial=0.1"],
        ),
        (
            ["distill=source", "training.adversarial=0.1"],
            "distill does not go with adversarial: set to 0",
            ["training.adversarial=0.1"],
        ),
        (
            [*TAUGHT, "decision.folds=5"],
            "decision.folds can't be given with distill.teachers, who have seen the labels of "
            "every fold: fit the decision to validation rows (decision.folds=null",
            ["distill=source", "decision.folds=5"],
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    refused: list[str], message: str, taken: list[str]
) -> None:
    (problem,) = mistakes("train", *refused)
    assert problem.startswith(message)
    train_config(*taken)


def test_novelty_needs_rows_too() -> None:
    (problem,) = mistakes("train", "decision.ood=knn", NO_VALIDATION)
    assert "must be fitted to rows" in problem
    train_config("decision.ood=knn", NO_VALIDATION, "decision.folds=5")


def test_adversarial_training_goes_alone() -> None:
    assert train_config("training.adversarial=0.1").training.adversarial == 0.1


def test_what_must_be_given_is_asked_for() -> None:
    assert mistakes("evaluate") == ("run: must be given",)


def test_several_mistakes_come_in_one_message() -> None:
    problems = mistakes("train", "modle=tiny", "training.lrr=1", "seed=-1", "data=golden", "x=${")
    text = "\n".join(problems)
    assert len(problems) == 5
    for part in ("modle", "training.lrr", "seed: found -1", "data=golden", "x=${"):
        assert part in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=tinyy", "model=tinyy: no such choice (did you mean tiny?); there are balanced"),
        ("data=${seed}", "data=${seed}: no such choice"),
        ("model=../train", "model=../train: no such choice"),
        ("model=null", "model=null: nothing to choose"),
        ("experiment=null", "experiment=null: nothing to choose"),
        ("model=[tiny,minilm]", "model=[tiny,minilm]: expected one of balanced"),
        ("model={name: x}", "model={name: x}: expected one of balanced"),
        ("model=1", "model=1: expected one of balanced"),
        ("+model=tiny", "+model=tiny: write it without the plus, model=tiny"),
        ("++experiment=mwml", "++experiment=mwml: write it without the plus"),
        ("model@training=tiny", "model@training=tiny: a choice can't be put elsewhere"),
        ("seed@x=1", "seed@x=1: a choice can't be put elsewhere"),
        ("~model", "model: must be given"),
        ("~seed", "~seed: a key can't be left out"),
        ("~nonsense", "~nonsense: a key can't be left out"),
        ("seed=1,2", "seed=1,2: several values need -m"),
        ("model=tiny,minilm", "model=tiny,minilm: several values need -m"),
        ("seed=range(0,3)", "seed=range(0,3): several values need -m"),
        ("hydra.run.dir=/tmp/x", "hydra.run.dir=/tmp/x: hydra's own settings have no effect"),
        ("hydra/launcher=basic", "hydra/launcher=basic: hydra's own settings"),
        ("", "'' is no KEY=VALUE"),
        ("=1", "'=1' is no KEY=VALUE"),
        ("train", "'train' is no KEY=VALUE"),
        ("name=a (1)", "'name=a (1)' is no KEY=VALUE, or its value needs quotes"),
        ("seed=${nonsense}", "seed: Interpolation key 'nonsense' not found"),
        ("training.lr=${training.lr}", "training.lr: Recursive interpolation"),
        ("seed=${oc.env:NO_SUCH_VARIABLE}", "seed: KeyError raised while resolving"),
        ("seed=${oc.decode:'{'}", "seed: "),
    ],
)
def test_misuse_of_the_syntax_is_explained(override: str, message: str) -> None:
    (problem,) = mistakes("train", override)
    assert problem.startswith(message)
    assert "\n" not in problem
    assert len(problem) < 400


def test_an_evaluation_with_a_key_of_no_source_says_so() -> None:
    (problem,) = mistakes("evaluate", "run=x", "data.path=x.csv")
    assert problem.startswith("data: lacks name, source")
    assert problem.endswith("choose data=CHOICE first")


def test_an_evaluation_with_a_key_of_no_decision_says_so() -> None:
    (problem,) = mistakes("evaluate", "run=x", "decision.target_precision=0.9")
    assert problem.startswith("decision: lacks calibration, policy")
    assert problem.endswith("choose decision=CHOICE first")
    given = ["run=x", "decision=threshold", "decision.target_precision=0.9"]
    config = load_config(EvaluateConfig, compose_config("evaluate", given))
    assert config.decision is not None
    assert (config.decision.policy, config.decision.target_precision) == ("threshold", 0.9)


def test_mistakes_about_compression_come_in_one_message() -> None:
    assert mistakes(
        "export",
        "run=x",
        "name=a b",
        "compress=int9",
        "compress.max_chnged=0.1",
        "compress.max_shift=-1",
        "compress.max_mib=0",
        "compress.dtype=int4",
        "compress.samples=0",
    ) == (
        "compress=int9: no such choice (did you mean int8?); there are balanced, fp16, fp32, int8, "
        "int8-small",
        "compress.max_chnged: no such key (did you mean compress.max_changed?)",
        "name: found 'a b', String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'",
        "compress.dtype: found 'int4', expected 'fp32', 'fp16' or 'int8'",
        "compress.max_shift: found -1, expected greater than or equal to 0",
        "compress.max_mib: found 0, expected greater than 0",
        "compress.samples: found 0, expected greater than or equal to 1",
    )


@pytest.mark.parametrize(
    "text", ["a b", "it's", r"a\b", r"a\'b", "a\\", "\\\\", "x=1, y", "7", "null"]
)
def test_any_text_is_quoted_for_hydra(text: str) -> None:
    assert compose_config("export", [f"run={quoted(text)}"]).run == text


def test_quotes_plus_signs_and_references_work() -> None:
    config = train_config(
        "model='tiny'", "+seed=3", "++name=x", "training.lr=${training.head_lr}", "~experiment"
    )
    assert (config.model.name, config.seed, config.name) == ("tiny", 3, "x")
    assert config.training.lr == config.training.head_lr


@pytest.mark.parametrize(
    "override", ["data.columns={title: headline}", "data.columns.title=headline"]
)
def test_columns_are_renamed(override: str) -> None:
    assert train_config(override).data.columns == {"title": "headline"}


def test_an_experiment_lies_over_the_choices_and_under_the_command_line() -> None:
    for choice in config_groups("train")["experiment"]:
        train_config(f"experiment={choice}", *NEEDED.get(f"experiment/{choice}", []))
    mwml = train_config("experiment=mwml")
    assert mwml.data.name == "mwml"
    gold = train_config("experiment=gold")
    assert gold.data.split.test == 0
    over = train_config("experiment=gold", "data.split.test=0.3", "model=tiny")
    assert (over.data.split.test, over.model.name) == (0.3, "tiny")


HEAD = "# @package _global_\n"


@pytest.fixture
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | bytes], str]:
    """Writes an experiment that lies elsewhere than the others, and gives its override."""
    folder = tmp_path_factory.mktemp("x")  # short, for messages cut what is long

    def write(content: str | bytes) -> str:
        path = folder / "mine.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return f"experiment={path}"

    return write


Experiment = Callable[[str | bytes], str]


@pytest.mark.parametrize("script", ["train", "optimize"])
def test_an_experiment_may_lie_anywhere(experiment: Experiment, script: str) -> None:
    given = experiment(
        f"{HEAD}# A note.\ndefaults:\n  - override /model: linear\n"
        "model: {strength: 7.0}\ntraining: {epochs: 3}\n"
    )
    config = compose_config(script, [given])
    assert (config.model.name, config.model.C, config.training.epochs) == ("linear", 7.0, 3)
    assert (
        config.model.word_ngrams == train_config("model=linear").model.model_dump()["word_ngrams"]
    )


def test_a_file_among_the_experiments_is_the_same_by_its_path() -> None:
    for choice in ("gold", "setfit"):
        by_path = train_config(f"experiment={CONFIG_DIR / 'experiment' / choice}.yaml")
        assert by_path == train_config(f"experiment={choice}")
    # A relative one counts from the repository, as the paths in configs do.
    assert train_config("experiment=configs/experiment/both.yaml") == train_config(
        "experiment=both"
    )


def test_overrides_win_over_an_experiment_by_path(experiment: Experiment) -> None:
    given = experiment(
        f"{HEAD}defaults:\n  - override /model: linear\n  - override /decision: threshold\n"
        "seed: 7\ntraining: {epochs: 3, lr: 0.1}\n"
    )
    config = train_config("training.epochs=9", "model=tiny", given, "seed=3", "+name=x")
    assert (config.training.epochs, config.training.lr, config.seed) == (9, 0.1, 3)
    assert (config.model.name, config.decision.policy, config.name) == ("tiny", "threshold", "x")


def test_a_composition_with_a_file_leaves_nothing_behind(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    given = experiment(f"{HEAD}seed: 5\n")
    assert train_config(given).seed == 5
    assert not list(scratch.iterdir())
    assert train_config("experiment=gold").seed == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"{HEAD}a: [", "it cannot be read as yaml: while parsing a flow node"),
        (f"{HEAD}seed: 1\nseed: 2", "it cannot be read as yaml: "),
        (HEAD.encode() + b"name: \xff", "it cannot be read as yaml: 'utf-8' codec can't decode"),
        ("", "is no experiment, which has the line `# @package _global_` at its head"),
        ("seed: 1", "is no experiment, which has the line `# @package _global_` at its head"),
        (f"{HEAD}[1, 2]", "is no experiment, which has the line"),
        ("# @package training\nlr: 1", "is no experiment, which has the line"),
        (f"seed: 1\n{HEAD}", "is no experiment, which has the line"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_experiment_is_named(
    experiment: Experiment, content: str | bytes, problem: str
) -> None:
    given = experiment(content)
    (found,) = mistakes("train", given)
    assert found.startswith(f"{given}: {problem}")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("entry", "problem"),
    [("override /modle: tiny", "Could not override 'modle'"), ("nothing", "Could not load")],
)
def test_a_mistake_in_what_an_experiment_chooses_is_named_with_its_file(
    experiment: Experiment, entry: str, problem: str
) -> None:
    (found,) = mistakes("train", experiment(f"{HEAD}defaults:\n  - {entry}\n"))
    assert problem in found
    assert "mine.yaml" in found
    assert "given-by-path" not in found


def test_an_experiment_by_path_is_read_as_hydra_reads_it(experiment: Experiment) -> None:
    """To Hydra, which knows no dates, this is text; to yaml it is a date that does not exist."""
    assert train_config(experiment(f"{HEAD}name: 2020-99-99\n")).name == "2020-99-99"


@pytest.mark.parametrize("name", ["nowhere/mine.yaml", "/nowhere/mine.yml"])
def test_an_experiment_that_is_not_there_is_named(name: str) -> None:
    assert mistakes("train", f"experiment={name}") == (f"experiment={name}: there is no such file",)


def test_a_path_that_can_be_none_is_named() -> None:
    (found,) = mistakes("train", "experiment='a\x00.yaml'")
    assert found.startswith("experiment='a\x00.yaml': ")


def test_a_folder_is_no_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a long path would be cut short in the message
    Path("x.yaml").mkdir()
    (found,) = mistakes("train", "experiment=./x.yaml")
    assert found.startswith("experiment=./x.yaml: it cannot be read as yaml: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("training: {lrr: 0.1}", "training.lrr: no such key (did you mean training.lr?)"),
        ("training: {lr: fast}", "training.lr: found 'fast', expected number"),
        ("training: {lr: '${nope}'}", "training.lr: Interpolation key 'nope' not found"),
        ("modle: {dropout: 0.1}", "modle: no such key (did you mean model?)"),
        ("model: {keep_layers: [1, 0]}", "model.keep_layers: layers are named once each, the "
         "lowest first: [1, 0]"),
        ("defaults: [{override /model: tniy}]", "In 'train': Could not find 'model/tniy'"),
    ],
)  # fmt: skip
def test_a_mistake_within_an_experiment_is_named(
    experiment: Experiment, content: str, problem: str
) -> None:
    assert mistakes("train", experiment(f"{HEAD}{content}\n")) == (problem,)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("+experiment={}", "write it without the plus"),
        ("++experiment={}", "write it without the plus"),
        ("experiment@model={}", "a choice can't be put elsewhere"),
    ],
)
def test_a_path_takes_no_other_form_than_a_choice(
    experiment: Experiment, form: str, problem: str
) -> None:
    path = experiment(f"{HEAD}seed: 1\n").removeprefix("experiment=")
    for choice in ("gold", path):
        assert problem in mistakes("train", form.format(choice))[0]


def test_an_experiment_is_not_taken_where_there_are_none(experiment: Experiment) -> None:
    given = experiment(f"{HEAD}seed: 1\n")
    assert mistakes("evaluate", "run=x", given) == ("experiment: no such key",)
    assert mistakes("evaluate", "run=x", "experiment=gold") == ("experiment: no such key",)


# Each is refused with the first overrides and taken with those that follow.
@pytest.mark.parametrize(
    ("refused", "message", "taken"),
    [
        (
            ["search.trials=null"],
            "search: `trials` and `hours` are both null: give one, or the sweep never ends",
            ["search.trials=null", "search.hours=0.5"],
        ),
        (
            ["search.trials=null", "search.sampler=random"],
            "search: `trials` and `hours` are both null: give one, or the sweep never ends",
            ["search.trials=null", "search.sampler=grid"],
        ),
        (
            ["search.objectives=[accuracy,macro_f1,accuracy]", "search.pruner=none"],
            "search: `objectives` names one twice: accuracy, macro_f1, accuracy",
            ["search.objectives=[accuracy,macro_f1]", "search.pruner=none"],
        ),
        *(
            (
                [f"search.objectives=[{cost},accuracy]", "search.pruner=none"],
                "search: the first of `objectives` picks the winner and must be counted over rows: "
                f"{cost} is a cost; put it after one of accuracy, macro_precision",
                [f"search.objectives=[accuracy,{cost}]", "search.pruner=none"],
            )
            for cost in ("p50_ms", "mib", "seconds")
        ),
        *(
            (
                ["search.objectives=[weighted_f1,mib]", f"search.pruner={pruner}"],
                f"search: pruner={pruner} ranks trials by one objective, and there are 2: give "
                "pruner=none",
                [f"search.pruner={pruner}"],
            )
            for pruner in ("items", "wilcoxon", "median", "hyperband")
        ),
        *(
            (
                [f"search.objectives=[{metric}]"],
                "search: pruner=items counts items that are right, which says little of "
                f"{metric}: give pruner=wilcoxon, or median, hyperband or none",
                [f"search.objectives=[{metric}]", "search.pruner=wilcoxon"],
            )
            for metric in ("macro_f1", "log_loss", "precision_at_90")
        ),
        (
            ["search.sampler=nsga2"],
            "search: sampler=nsga2 learns from whole trials alone: give pruner=none",
            ["search.sampler=nsga2", "search.pruner=none"],
        ),
        (
            ["data.split.folds=5", "data.split.fold=0"],
            "data.split.folds can't be given: search.folds says how many",
            ["search.folds=3"],
        ),
        (
            ["model=ensemble", "model.runs=[one,two]"],
            "model=ensemble has nothing to search: its members are finished runs",
            ["model=linear"],
        ),
        (["model.head=mlp"], "training.head_init=probe needs model.head=linear", ["model=tiny"]),
        (
            TAUGHT,
            "distill.teachers have seen labels of the rows that trials are judged on: search "
            "without them (distill=source)",
            ["distill=source"],
        ),
    ],
)
def test_settings_of_a_search_that_do_not_go_together_are_refused(
    refused: list[str], message: str, taken: list[str]
) -> None:
    (problem,) = mistakes("optimize", *refused)
    assert problem.startswith(message)
    load_config(OptimizeConfig, compose_config("optimize", taken))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.objectives=[]", "search.objectives: found [], "),
        ("search.objectives=[f1]", "search.objectives.0: found 'f1', expected 'accuracy', "),
        ("search.objectives=accuracy", "search.objectives: found 'accuracy', expected list"),
        ("search.folds=1", "search.folds: found 1, expected greater than or equal to 2"),
        ("search.repeats=0", "search.repeats: found 0, expected greater than or equal to 1"),
        ("search.sampler=cmaes", "search.sampler: found 'cmaes', expected 'tpe', 'random'"),
        ("search.pruner=halving", "search.pruner: found 'halving', expected 'items', 'wilcoxon'"),
        ("search.prune_p=0.6", "search.prune_p: found 0.6, expected less than or equal to 0.5"),
        ("search.trials=0", "search.trials: found 0, expected greater than or equal to 1"),
        ("search.hours=0", "search.hours: found 0, expected greater than 0"),
        ("search.workers=0", "search.workers: found 0, expected greater than or equal to 1"),
        ("search.confirm=-1", "search.confirm: found -1, expected greater than or equal to 0"),
        ("search.trails=5", "search.trails: no such key (did you mean search.trials?)"),
        ("name=a/b", "name: found 'a/b'"),
        ("search=fientune", "search=fientune: no such choice (did you mean finetune?)"),
    ],
)
def test_a_wrong_value_of_a_search_is_named(override: str, message: str) -> None:
    (problem,) = mistakes("optimize", override)
    assert problem.startswith(message)


def test_keys_of_a_space_are_the_users_own() -> None:
    """They are checked later, with the config that they change."""
    given = ["search.space.training.lr.high=1e-3", "search.space.training.typos.choices=[0.1,0.2]"]
    config = load_config(OptimizeConfig, compose_config("optimize", given))
    assert config.search.space["training"]["lr"] == {"low": 1e-5, "high": 1e-3, "log": True}
    assert config.search.space["training"]["typos"] == {"choices": [0.1, 0.2]}


def test_a_search_starts_from_the_config_that_is_given() -> None:
    given = ["model=tiny", "training.lr=0.01", "seed=3", "runs_dir=mine"]
    config = load_config(OptimizeConfig, compose_config("optimize", [*given, "name=sweep-1"]))
    assert config.base == train_config(*given)


def stored(config: TrainConfig) -> TrainConfig:
    """A config with its paths in the form in which they are stored."""
    return TrainConfig.model_validate(with_portable_paths(config.model_dump()))


@pytest.mark.parametrize("choice", ["frozen", "linear", "rules", "ensemble"])
def test_a_saved_config_of_any_approach_is_the_same_when_it_is_read(
    choice: str, tmp_path: Path
) -> None:
    config = train_config(
        f"model={choice}", *NEEDED.get(f"model/{choice}", []), "decision.policy=conformal",
        "data.extra=[one.csv,'ü $.jsonl']",
    )  # fmt: skip
    save_config(config, tmp_path / "config.yaml")
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == stored(config)


def test_a_saved_config_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    config = train_config(
        "name=run-1", "data=file", "data.path='/tmp/ü ${x} ???: #1.csv'".replace("$", "\\$"),
        "data.columns={title: headline}", "training.lr=1e-7", "model=tiny",
    )  # fmt: skip
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
        ("name: x\nfoo: 1\n", "foo: no such key"),
        ("name: x\n", "seed: must be given"),
    ],
)
def test_a_damaged_saved_config_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_saved_config(TrainConfig, path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_saved_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        load_saved_config(TrainConfig, tmp_path / "config.yaml")


def test_a_saved_config_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="is not yaml"):
        load_saved_config(TrainConfig, tmp_path / "config.yaml")


KEYS = [*schema_keys(TrainConfig), "experiment", "data.columns.title", "data.columns.x", "foo", ""]
JUNK = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["${", "${seed}", "${..x}", "${oc.env:X}", "${oc.decode:x}", "${data}", "[1,[2,{a:b}]]",
         "{a: {b: c}}", "1,2", "range(3)", "choice(a,b)", "glob(*)", "interval(0,1)", "sort(1,2)",
         "str(1)", "int(x)", "float(inf)", "json_str([1])", "extend_list(1)", "'\"", '"\\"', "???",
         "null", "~", "!!python/object:os.system", "&a *a", "1e999", "0x1f", "-0", "\\", "\x00",
         "../../etc", "[" * 40, "{" * 40, "é" * 40, "\ud800", "🦄: x", "tiny", "_target_", "null,"]
    ),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.integers(), max_size=3),
)  # fmt: skip
SIGNS = st.sampled_from(["", "+", "++", "~", "@", "/", "+~"])
OVERRIDES = st.one_of(
    st.text(max_size=30),
    st.builds(
        lambda sign, key, package, value: f"{sign}{key}{package}={value}",
        SIGNS,
        st.one_of(st.sampled_from(KEYS), st.text(max_size=10)),
        st.sampled_from(["", "", "", "@x", "@_global_", ".y", "/z", ":q"]),
        JUNK,
    ),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=st.lists(OVERRIDES, min_size=1, max_size=4))
@example(overrides=["a" * 3000 + "=1"])
@example(overrides=["data.columns." + "a" * 3000 + "=1"])
@example(overrides=["training=" + "[" * 500])
@example(overrides=["seed=" + "9" * 5000])
@example(overrides=["~model=0"])
def test_any_command_line_ends_in_a_config_or_in_a_message(overrides: Sequence[str]) -> None:
    for name in SCHEMAS:
        begin = time.process_time()
        try:
            compose_config(name, overrides)
        except UserError as error:
            assert error.problems
            assert all(len(problem) < 1000 for problem in error.problems)
        assert time.process_time() - begin < 5


def test_a_composition_leaves_no_trace_in_hydra(tiny_config: Callable[..., TrainConfig]) -> None:
    from hydra.core.global_hydra import GlobalHydra

    tiny_config()
    assert not GlobalHydra.instance().is_initialized()
    mistakes("train", "foo=1")
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_help_lists_the_choices(script: str, tmp_path: Path) -> None:
    done = run_script(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    for group, choices in config_groups(script.removesuffix(".py")).items():
        assert group in done.stdout
        # They stand on a line of their own, or after the group's name; in any order, none missing.
        lists = (line.rpartition(": ")[2].split(", ") for line in done.stdout.splitlines())
        assert any(sorted(one.strip() for one in names) == choices for names in lists), group
    assert not list(tmp_path.iterdir())


def test_the_composed_config_can_be_shown(tmp_path: Path) -> None:
    done = run_script("train.py", "--cfg", "job", "model=tiny", cwd=tmp_path)
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["model"]["name"] == "tiny"
    assert not list(tmp_path.iterdir())


def test_mistakes_end_the_script_with_one_message(tmp_path: Path) -> None:
    done = run_script("train.py", "modle=tiny", "training.lrr=1", "+foo=1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the config has mistakes:",
        "  - modle: no such key (did you mean model?)",
        "  - training.lrr: no such key (did you mean training.lr?)",
        "  - foo: no such key",
        WHERE_TO_LOOK,
    ]
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_sweep_leaves_its_note_among_the_runs(tmp_path: Path) -> None:
    done = run_script("evaluate.py", "-m", "run=none", "seed=1,2", "runs_dir=kept", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no run 'none'" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["data.path=x.csv"], ["data=file", "data.path=x.csv"]),
        (["-m", "data.path=x.csv", "seed=0,1"], ["-m", "data=file", "data.path=x.csv", "seed=0,1"]),
        (["data=hub", "data.path=x.csv"], ["data=hub", "data.path=x.csv"]),
        (["experiment=mwml", "data.path=x.csv"], ["experiment=mwml", "data.path=x.csv"]),
        (["seed=1"], ["seed=1"]),
    ],
)
def test_a_path_of_data_alone_is_understood(given: list[str], understood: list[str]) -> None:
    assert with_source(given) == understood


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.columns={text: x, description: y}"], "which are the same: give one"),
        (["data.test_path=x", "data.split.column=y"], "both say which rows are the test"),
        (["data.test_path=x", "data.split.folds=2", "data.split.fold=0"], "leave out test_path"),
        (["data=hub", "data.hub_id=a/b", "data.test_path=x"], "goes with source=file, found hub"),
    ],
)
def test_contradictions_of_a_source_are_named(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(TrainConfig, compose_config("train", ["data=file", "data.path=x", *overrides]))
    assert expected in str(caught.value)
