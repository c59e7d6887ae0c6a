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

from tagger.config import (
    APPROACHES,
    CONFIG_DIR,
    SCHEMAS,
    DataConfig,
    DecisionConfig,
    EnsembleConfig,
    EvaluateConfig,
    FrozenConfig,
    LinearConfig,
    RulesConfig,
    Section,
    TrainConfig,
    TransformerConfig,
    compose_config,
    config_groups,
    load_config,
    load_saved_config,
    save_config,
    schema_keys,
)
from tagger.errors import UserError
from tagger.files import REPO_ROOT

# What a choice can't know and the user must give.
NEEDED = {
    "data/file": ["data.path=x.csv"],
    "data/hub": ["data.hub_id=org/name"],
    "model/hub": ["model.encoder=org/name"],
    "model/ensemble": ["model.runs=[one,two]"],
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
    assert set(groups) == {"data", "model", "training", "decision", "tracking", "experiment"}
    assert all(groups.values())
    assert set(config_groups("evaluate")) == {"data", "decision"}
    assert set(config_groups("optimize")) == set(groups) | {"search"}


@pytest.mark.parametrize("file", YAML_FILES)
def test_every_yaml_composes_and_validates(file: str) -> None:
    if file in SCHEMAS:
        needed = ["run=x"] if file == "evaluate" else []
        compose_config(file, needed)
        return
    group, choice = file.split("/")
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
    needs_no_file = {"model", "training", "tracking"}  # groups as such
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
        ("training.precision=fp16", "training.precision: found 'fp16', expected 'auto', 'fp32'"),
        ("model.freeze_embeddings=yes please", "model.freeze_embeddings: found 'yes please'"),
        ("name=../elsewhere", "name: found '../elsewhere'"),
        ("name=2024", "name: found 2024, expected string (as text: \"name='2024'\")"),
        ("data.sha256=abc", "data.sha256: found 'abc'"),
        ("data.columns={titel: x}", "data: `columns` renames ['titel']"),
        ("data.split.test=0.9", "data.split: validation=0.15 and test=0.9 leave nothing"),
        ("data.split.folds=5", "data.split: `folds` and `fold` go together"),
        ("model.encoder=random", "model: `random` (a shape) is given exactly when"),
        ("model.head=mlp", "training.head_init=probe needs model.head=linear"),
        ("model.approach=magic", "model: found {'approach': 'magic'"),
        ("data.extra=x.csv", "data.extra: found 'x.csv', expected list"),
        ("data.extra_weight=0", "data.extra_weight: found 0, expected greater than 0"),
        ("decision.precision=1.0", "decision.precision: found 1.0, expected less than 1"),
        ("decision.policy=vote", "decision.policy: found 'vote', expected 'argmax', 'threshold'"),
        ("decision.folds=1", "decision.folds: found 1, expected greater than or equal to 2"),
        ("training.threads=???", "training.threads: must be given"),
    ],
)
def test_a_wrong_value_is_named(override: str, message: str) -> None:
    (problem,) = mistakes("train", override)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=linear", "model.word_ngrams=9"], "model.word_ngrams: found 9, expected less"),
        (["model=linear", "model.pooling=cls"], "model.pooling: the chosen model has no such key"),
        (["model=rules", "model.rules=''"], "model.rules: found '', "),
        (["model=frozen", "model.strength=0"], "model.strength: found 0, expected greater than 0"),
        (["model=frozen", "model.random={layers: 1, hidden: 8, heads: 1, intermediate: 8}"],
         "model: `random` (a shape) is given exactly when"),
        (["model=ensemble", "model.runs=[one]"], "model.runs: found ['one'], "),
        (["model=ensemble", "model.runs=[a,b]", "model.combine=vote"],
         "model.combine: found 'vote', expected 'probabilities' or 'weights'"),
    ],
)  # fmt: skip
def test_a_wrong_value_of_another_approach_is_named_by_its_key(
    overrides: list[str], message: str
) -> None:
    (problem,) = mistakes("train", *overrides)
    assert problem.startswith(message)


ENSEMBLE = ("model=ensemble", "model.runs=[one,two]")
NO_VALIDATION = "data.split.validation=0"


# Each is refused with the first overrides and taken with those that follow.
@pytest.mark.parametrize(
    ("refused", "message", "taken"),
    [
        (
            ["decision.novelty=neighbours", "model=linear"],
            "decision.novelty=neighbours needs a model with an encoder, and approach=linear has "
            "none",
            ["decision.novelty=neighbours", "model=frozen"],
        ),
        (
            ["decision.novelty=mahalanobis", "model=rules"],
            "decision.novelty=mahalanobis needs a model with an encoder, and approach=rules has "
            "none",
            ["decision.novelty=mahalanobis", "model=tiny"],
        ),
        (
            ["decision.novelty=neighbours", *ENSEMBLE],
            "decision.novelty=neighbours needs a model with an encoder, and approach=ensemble has "
            "none",
            ["decision.novelty=none", *ENSEMBLE],
        ),
        (
            ["decision.folds=5", "model.combine=weights", *ENSEMBLE],
            "decision.folds can't be given with model.combine=weights",
            ["decision.folds=5", *ENSEMBLE],
        ),
        (
            ["decision=threshold", "model.combine=weights", *ENSEMBLE],
            "decision.folds can't be given with model.combine=weights",
            ["decision=threshold", "decision.folds=null", "model.combine=weights", *ENSEMBLE],
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
        *(
            (
                ["training.adversarial=0.1", f"training.{other}=0.5"],
                "training: adversarial goes with none of mixup, r_drop and contrast",
                [f"training.{other}=0.5"],
            )
            for other in ("mixup", "r_drop", "contrast")
        ),
        (
            ["training.class_loss=0"],
            "training: class_loss and contrast are both 0",
            ["training.class_loss=0", "training.contrast=1"],
        ),
        (
            ["training.average_from=0.5", "training.average_decay=0"],
            "training: average_from needs an average: average_decay is 0",
            ["training.average_from=0.5", "training.average_decay=0.9"],
        ),
        (
            ["training.average_from=0", "training.average_decay=0"],
            "training: average_from needs an average: average_decay is 0",
            ["training.average_decay=0"],
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
    (problem,) = mistakes("train", "decision.novelty=neighbours", NO_VALIDATION)
    assert "must be fitted to rows" in problem
    train_config("decision.novelty=neighbours", NO_VALIDATION, "decision.folds=5")


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
        ("model=tinyy", "model=tinyy: no such choice (did you mean tiny?); there are distilbert"),
        ("data=${seed}", "data=${seed}: no such choice"),
        ("model=../train", "model=../train: no such choice"),
        ("model=null", "model=null: nothing to choose"),
        ("experiment=null", "experiment=null: nothing to choose"),
        ("model=[tiny,minilm]", "model=[tiny,minilm]: expected one of distilbert"),
        ("model={name: x}", "model={name: x}: expected one of distilbert"),
        ("model=1", "model=1: expected one of distilbert"),
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
    (problem,) = mistakes("evaluate", "run=x", "decision.precision=0.9")
    assert problem.startswith("decision: lacks calibration, policy")
    assert problem.endswith("choose decision=CHOICE first")
    given = ["run=x", "decision=threshold", "decision.precision=0.9"]
    config = load_config(EvaluateConfig, compose_config("evaluate", given))
    assert config.decision is not None
    assert (config.decision.policy, config.decision.precision) == ("threshold", 0.9)


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
        train_config(f"experiment={choice}")
    mwml = train_config("experiment=mwml")
    assert mwml.data.name == "mwml"
    gold = train_config("experiment=gold")
    assert gold.data.split.test == 0
    over = train_config("experiment=gold", "data.split.test=0.3", "model=tiny")
    assert (over.data.split.test, over.model.name) == (0.3, "tiny")


@pytest.mark.parametrize("choice", ["frozen", "linear", "rules", "ensemble"])
def test_a_saved_config_of_any_approach_is_the_same_when_it_is_read(
    choice: str, tmp_path: Path
) -> None:
    config = train_config(
        f"model={choice}", *NEEDED.get(f"model/{choice}", []), "decision.policy=conformal",
        "data.extra=[one.csv,'ü $.jsonl']",
    )  # fmt: skip
    save_config(config, tmp_path / "config.yaml")
    assert load_saved_config(TrainConfig, tmp_path / "config.yaml") == config


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
        begin = time.monotonic()
        try:
            compose_config(name, overrides)
        except UserError as error:
            assert error.problems
            assert all(len(problem) < 1000 for problem in error.problems)
        assert time.monotonic() - begin < 5


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
        "See `--help` for the groups, configs/ for the files, src/tagger/config.py for the ranges.",
    ]
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_sweep_leaves_its_note_among_the_runs(tmp_path: Path) -> None:
    done = run_script("evaluate.py", "-m", "run=none", "seed=1,2", "runs_dir=kept", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no run 'none'" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
