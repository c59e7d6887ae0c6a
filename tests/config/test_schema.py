from copy import deepcopy
from functools import cache

import pytest
import yaml
from omegaconf import OmegaConf

from tagger.config.composition import (
    CONFIG_DIR,
    compose_config,
    compose_section,
    config_groups,
)
from tagger.config.messages import schema_keys, validate_config
from tagger.config.schema import (
    APPROACHES,
    SCHEMAS,
    EnsembleConfig,
    FrozenConfig,
    LinearConfig,
    OptimizeConfig,
    RulesConfig,
    Section,
    TrainConfig,
    TransformerConfig,
)
from tagger.errors import UserError


@cache
def defaults(script: str) -> object:
    return OmegaConf.to_container(compose_config(script, []), resolve=True)


def fill(script: str, *overrides: str) -> Section:
    """Make a config of a script's defaults and some overrides, without the cost of Hydra."""
    plain = deepcopy(defaults(script))
    assert isinstance(plain, dict)
    for override in overrides:
        key, _, value = override.partition("=")
        if key in config_groups(script):
            plain[key] = deepcopy(dict(compose_section(key, value)))
            continue
        *parents, name = key.split(".")
        section = plain
        for parent in parents:
            section = section[parent]
        section[name] = yaml.safe_load(value)
    return validate_config(SCHEMAS[script], plain, "mistakes:")


def problem_of(script: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        fill(script, *overrides)
    (problem,) = caught.value.problems
    return problem


def test_every_schema_key_is_in_some_yaml() -> None:
    written: set[str] = set()

    def collect(value: object, prefix: str) -> None:
        for key, below in value.items() if isinstance(value, dict) else ():
            written.add(f"{prefix}{key}")
            for one in below if isinstance(below, list) else [below]:
                collect(one, f"{prefix}{key}.")

    for file in CONFIG_DIR.rglob("*.yaml"):
        group = file.parent.name
        whole = group in ("configs", "experiment", "debug")
        collect(yaml.safe_load(file.read_text("utf-8")), "" if whole else f"{group}.")
    needs_no_file = {"model", "training", "tracking", "compress", "build"}  # groups as such
    for schema in SCHEMAS.values():
        missing = set(schema_keys(schema)) - written - needs_no_file
        assert not missing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("minilm", TransformerConfig),
        ("frozen", FrozenConfig),
        ("linear", LinearConfig),
        ("rules", RulesConfig),
    ],
)
def test_the_approach_decides_what_a_model_is(choice: str, kind: type[Section]) -> None:
    config = fill("train", f"model={choice}")
    assert isinstance(config, TrainConfig)
    assert type(config.model) is kind
    assert config.model.name == choice


def test_there_is_a_choice_for_every_approach() -> None:
    choices = config_groups("train")["model"]
    files = [CONFIG_DIR / "model" / f"{one}.yaml" for one in choices]
    found = {yaml.safe_load(file.read_text("utf-8")).get("approach") for file in files}
    assert found - {None} == set(APPROACHES)
    ensemble = fill("train", *ENSEMBLE)
    assert isinstance(ensemble, TrainConfig)
    assert isinstance(ensemble.model, EnsembleConfig)


ENSEMBLE = ("model=ensemble", "model.runs=[one,two]")
NO_VALIDATION = "data.split.validation=0"
TAUGHT = ["distill=soft", "distill.teachers=[one]"]
STATIC = ["model.static=64", "model.freeze_embeddings=false"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1.5"], "seed: found 1.5, expected integer"),
        (["seed=-1"], "seed: found -1, expected greater than or equal to 0"),
        (["seed=2147483648"], "seed: found 2147483648, expected less than 2147483648"),
        (["seed=true"], "seed: found True, expected integer"),
        (["seed='1'"], "seed: found '1', expected integer"),
        (["seed=null"], "seed: must be given"),
        (["training.lr=fast"], "training.lr: found 'fast', expected number"),
        (
            ["training.mixed_precision=fp16"],
            "training.mixed_precision: found 'fp16', expected 'auto', 'fp32'",
        ),
        (["model.freeze_embeddings=yes please"], "model.freeze_embeddings: found 'yes please'"),
        (["name=../elsewhere"], "name: found '../elsewhere'"),
        (["name=2024"], "name: found 2024, expected string (as text: \"name='2024'\")"),
        (["data.sha256=abc"], "data.sha256: found 'abc'"),
        (["data.columns={titel: x}"], "data: `columns` gives a column for titel, but the fields"),
        (["data.columns={text: x, description: y}"], "data: `columns` gives both text and"),
        (["data=file"], "data: source=file needs data.path=..."),
        (
            ["data=hub", "data.hub_id=a/b", "data.test_path=x"],
            "data: `test_path` goes with source=file, found hub",
        ),
        (["data.split.test=0.9"], "data.split: validation=0.15 and test=0.9 leave nothing"),
        (["data.split.folds=5"], "data.split: `folds` and `fold` go together"),
        (["data.extra=x.csv"], "data.extra: found 'x.csv', expected list"),
        (["decision.policy=vote"], "decision.policy: found 'vote', expected 'argmax', 'threshold'"),
        (["decision.target_precision=1.0"], "decision.target_precision: found 1.0, expected less"),
        (["model.encoder=random"], "model: `random` (a shape) is given exactly when"),
        (["model.approach=magic"], "model: found {'approach': 'magic'"),
        (["model.vocabulary_from=[]"], "model.vocabulary_from: found [], List should have at"),
        (["model.keep_layers=[1,0]"], "model.keep_layers: layers are named once each, the lowest"),
        (["model=linear", "model.word_ngrams=9"], "model.word_ngrams: found 9, expected less"),
        (["model=linear", "model.pooling=cls"], "model.pooling: the chosen model has no such key"),
        (["model=ensemble", "model.runs=[one]"], "model.runs: found ['one'], "),
        ([*TAUGHT, "distill.tempreature=2"], "distill.tempreature: no such key (did you mean dist"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(overrides: list[str], message: str) -> None:
    assert problem_of("train", *overrides).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.objectives=[]", "search.objectives: found [], "),
        ("search.objectives=[f1]", "search.objectives.0: found 'f1', expected 'accuracy', "),
        ("search.folds=1", "search.folds: found 1, expected greater than or equal to 2"),
        ("search.sampler=cmaes", "search.sampler: found 'cmaes', expected 'tpe', 'random'"),
        ("search.hours=0", "search.hours: found 0, expected greater than 0"),
        ("search.trails=5", "search.trails: no such key (did you mean search.trials?)"),
    ],
)
def test_a_wrong_value_of_a_search_is_named(override: str, message: str) -> None:
    assert problem_of("optimize", override).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split.column=y"], "data: test_path and split.column both say which rows are the"),
        (["data.split.folds=2", "data.split.fold=0"], "data: split.folds makes test parts of its"),
    ],
)
def test_test_rows_are_chosen_in_one_way(overrides: list[str], message: str) -> None:
    given = ["data=file", "data.path=x", "data.test_path=x"]
    assert problem_of("train", *given, *overrides).startswith(message)


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
            ["decision.ood=knn", *ENSEMBLE],
            "decision.ood=knn needs a model with an encoder, and approach=ensemble has none",
            ["decision.ood=none", *ENSEMBLE],
        ),
        (
            ["decision.policy=threshold", NO_VALIDATION],
            "decision.policy=threshold with decision.ood=none must be fitted to rows: give "
            "decision.folds=5, or data.split.validation above 0",
            ["decision.policy=threshold", NO_VALIDATION, "decision.folds=5"],
        ),
        (
            ["decision=conformal", "decision.folds=null", NO_VALIDATION],
            "decision.policy=conformal with decision.ood=none must be",
            ["decision=conformal", NO_VALIDATION],
        ),
        (
            ["decision.ood=knn", NO_VALIDATION],
            "decision.policy=argmax with decision.ood=knn must be fitted",
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
        (
            [*ENSEMBLE, "distill=source"],
            "distill needs approach=transformer, found ensemble",
            ["model=tiny", "distill=source"],
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
    assert problem_of("train", *refused).startswith(message)
    fill("train", *taken)


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
        *(
            (
                [f"search.objectives=[{cost},accuracy]", "search.pruner=none"],
                "search: the first of `objectives` picks the winner and must be counted over rows: "
                f"{cost} is a cost; put it after one of accuracy, macro_precision",
                [f"search.objectives=[accuracy,{cost}]", "search.pruner=none"],
            )
            for cost in ("p50_ms", "mib")
        ),
        *(
            (
                ["search.objectives=[weighted_f1,mib]", f"search.pruner={pruner}"],
                f"search: pruner={pruner} ranks trials by one objective, and there are 2: give "
                "pruner=none",
                [f"search.pruner={pruner}"],
            )
            for pruner in ("items", "hyperband")
        ),
        *(
            (
                [f"search.objectives=[{metric}]"],
                "search: pruner=items counts items that are right, which says little of "
                f"{metric}: give pruner=wilcoxon, or median, hyperband or none",
                [f"search.objectives=[{metric}]", "search.pruner=wilcoxon"],
            )
            for metric in ("macro_f1", "log_loss")
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
    assert problem_of("optimize", *refused).startswith(message)
    fill("optimize", *taken)


def test_grouping_is_turned_off_with_and_without_quotes() -> None:
    """Without quotes, YAML takes `off` for a boolean."""
    for override in ("data.split.group=off", "data.split.group='off'"):
        config = fill("train", override)
        assert isinstance(config, TrainConfig)
        assert config.data.split.group == "off"
    assert problem_of("train", "data.split.group=some").startswith("data.split.group: found 'some'")


def test_a_search_starts_from_the_config_that_is_given() -> None:
    given = ["model=tiny", "training.lr=0.01", "seed=3", "runs_dir=mine"]
    config = fill("optimize", *given, "name=sweep-1")
    assert isinstance(config, OptimizeConfig)
    assert config.base == fill("train", *given)
