import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import Trial

from tagger.config.composition import compose_config, config_groups, load_config
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.errors import UserError
from tagger.search.space import Assignment, SearchSpace

MODELS = config_groups("optimize")["model"]
RATES = "{low: 1.0e-5, high: 1.0e-3, log: true}"

# Groups with keys of their own, a chain of conditions, lists and nothing among choices, and ranges
# of each kind.
EVERYTHING = """
model:
  choices: [tiny, student, linear]
  dropout: {low: 0.0, high: 0.5, when: {model: [tiny, student]}}
  keep_layers: {choices: [null, [0], [0, 1]], when: {model: tiny}}
  word_ngrams: {low: 1, high: 3, when: {model: linear}}
  balanced: {choices: [true, false], when: {model: linear}}
decision:
  choices: [argmax, threshold]
  target_precision: {low: 0.9, high: 0.98, step: 0.01, when: {decision: threshold}}
data:
  extra:
    choices: [["repo:data/contrasts.csv"], [], [data/gold.csv], [data/gold.csv, data/contrasts.csv]]
training:
  lr: {low: 1.0e-5, high: 1.0e-3, log: true}
  batch_size: {low: 8, high: 32, step: 8}
  patience: {choices: [null, 1, 2]}
  loss: {choices: [cross_entropy, focal]}
  focal_gamma: {low: 0.5, high: 4.0, when: {training.loss: focal}}
  ema_decay: {choices: [0.0, 0.5], when: {training.loss: focal, model: [tiny, student]}}
"""


@cache
def config_of(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", overrides))


@cache
def parse(space: str, *overrides: str) -> SearchSpace:
    return SearchSpace.parse(yaml.safe_load(space), config_of(*overrides))


def mistakes(space: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(space, *overrides)
    assert caught.value.summary == "the search space has mistakes:"
    assert "configs/search/" in caught.value.hint
    return [problem.removeprefix("search.space") for problem in caught.value.problems]


def ask(seed: int) -> Trial:
    return optuna.create_study(sampler=RandomSampler(seed=seed)).ask()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("quick", []),
        ("finetune", []),
        ("linear", ["model=linear"]),
        ("distill", ["model=student"]),
        ("compress", []),
    ],
)
def test_the_spaces_that_come_along_hold_where_the_search_starts(
    name: str, overrides: list[str]
) -> None:
    config = load_config(OptimizeConfig, compose_config("optimize", [f"search={name}", *overrides]))
    space = SearchSpace.parse(config.search.space, config.base)
    chosen = space.assignment_of(config.base)
    assert len(chosen) > 2
    assert chosen.keys() >= {one.path for one in space.parameters if not one.when}
    assert space.apply(chosen) == config.base


def test_a_space_is_read_as_it_is_written() -> None:
    found = {one.path: one for one in parse(EVERYTHING).parameters}
    assert set(found) == {
        "model", "model.dropout", "model.keep_layers", "model.word_ngrams", "model.balanced",
        "decision", "decision.target_precision", "data.extra", "training.lr", "training.batch_size",
        "training.patience", "training.loss", "training.focal_gamma", "training.ema_decay",
    }  # fmt: skip
    assert found["training.lr"].distribution == FloatDistribution(1e-5, 1e-3, log=True)
    assert found["training.batch_size"].distribution == IntDistribution(8, 32, step=8)
    assert found["decision.target_precision"].distribution == FloatDistribution(
        0.9, 0.98, step=0.01
    )
    assert found["model.dropout"].distribution == FloatDistribution(0.0, 0.5)
    assert found["model.keep_layers"].distribution == CategoricalDistribution(
        [None, "[0]", "[0, 1]"]
    )
    assert found["model.keep_layers"].choices == (None, [0], [0, 1])
    assert found["model.dropout"].when == {"model": ("tiny", "student")}
    assert found["training.lr"].when == {}


def test_each_parameter_comes_after_what_it_depends_on() -> None:
    text = """
    training:
      focal_gamma: {low: 0.5, high: 4.0, when: {training.loss: focal}}
      loss: {choices: [cross_entropy, focal], when: {model: tiny}}
    model: {choices: [tiny, linear]}
    """
    order = [one.path for one in parse(text).parameters]
    assert order == ["model", "training.loss", "training.focal_gamma"]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("model: {max_length: {low: 8, high: 64, log: true}}", IntDistribution(8, 64, log=True)),
        ("training: {weight_decay: {low: 0, high: 1}}", FloatDistribution(0.0, 1.0)),
    ],
)
def test_the_key_decides_whether_a_range_is_of_whole_numbers(
    space: str, expected: IntDistribution | FloatDistribution
) -> None:
    (one,) = parse(space).parameters
    assert one.distribution == expected
    assert one.grid() == []


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ("{}", ": there is nothing in it to search"),
        ("training: {}", ".training: found {}, expected a mapping with low and high, or with "
         "choices"),
        ("training: {lr: 0.1}", ".training.lr: found 0.1, expected a mapping with low and high, or "
         "with choices"),
        ("training: {schedule: cosine}", ".training.schedule: found 'cosine', expected a mapping "
         "with low and high, or with choices"),
        (f"training: {{lrr: {RATES}}}", ".training.lrr: no such key (did you mean training.lr?)"),
        (f"trainig: {{lr: {RATES}}}", ".trainig.lr: no such key (did you mean training.lr?)"),
        (f"lr: {RATES}", ".lr: no such key (did you mean training.lr?)"),
        (f"qqqq: {RATES}", ".qqqq: no such key"),
        ("data: {low: 0, high: 1}", ".data: is a section of the config; search the keys below it"),
        ("model: {random: {choices: [null]}}", ".model.random: is a section of the config; search "
         "the keys below it"),
        *(
            (f"{{{key}: {{choices: [1]}}}}", f".{path}: a sweep holds it still; its trials are "
             "compared on the same rows and seeds")
            for key, path in {
                "seed": "seed", "name": "name", "runs_dir": "runs_dir", "resume": "resume",
                "tracking": "tracking",
            }.items()
        ),
        ("data: {split: {seed: {low: 0, high: 9}}}", ".data.split.seed: a sweep holds it still; "
         "its trials are compared on the same rows and seeds"),
        ("data: {path: {choices: [a.csv]}}", ".data.path: a sweep holds it still; its trials are "
         "compared on the same rows and seeds"),
        ("training: {lr: {low: 1.0e-5, high: 1.0e-3, lgo: true}}", ".training.lr: lgo: no such "
         "key (did you mean low?)"),
        ("training: {lr: {low: 1.0e-5}}", ".training.lr: needs low and high, or choices"),
        ("training: {lr: {low: null, high: 0.1}}", ".training.lr: needs low and high, or choices"),
        ("training: {lr: {low: 0.2, high: 0.1}}", ".training.lr: the range is empty: low=0.2 is "
         "not below high=0.1"),
        ("training: {epochs: {low: 3, high: 3}}", ".training.epochs: the range is empty: low=3 is "
         "not below high=3"),
        ("training: {epochs: {low: 1.5, high: 3}}", ".training.epochs: low: found 1.5, expected "
         "integer"),
        ("training: {epochs: {low: 1, high: 3, step: 0.5}}", ".training.epochs: step: found 0.5, "
         "expected integer"),
        ("training: {epochs: {low: true, high: 3}}", ".training.epochs: low: found True, expected "
         "integer"),
        ("training: {lr: {low: a, high: 0.1}}", ".training.lr: low: found 'a', expected number"),
        ("training: {warmup: {low: 0.0, high: 1.0, step: 0.3}}", ".training.warmup: no whole "
         "number of steps of 0.3 leads from 0.0 to 1.0"),
        ("training: {warmup: {low: 0.0, high: 1.0, step: 0}}", ".training.warmup: step: found 0, "
         "expected greater than 0"),
        ("training: {epochs: {low: 1, high: 3, step: -1}}", ".training.epochs: step: found -1, "
         "expected greater than 0"),
        ("training: {warmup: {low: 0.0, high: 1.0, log: true}}", ".training.warmup: `low > 0` "
         "must hold for `log=True`, but got (low=0.0, high=1.0)."),
        ("training: {lr: {low: 0.1, high: 0.3, step: 0.1, log: true}}", ".training.lr: The "
         "parameter `step` is not supported when `log` is true."),
        ("training: {lr: {low: 0.1, high: 0.3, log: 10}}", ".training.lr: log: found 10, expected "
         "boolean"),
        ("training: {schedule: {low: a, high: b}}", ".training.schedule: is no number, so it needs "
         "choices"),
        ("model: {freeze_embeddings: {low: 0, high: 1}}", ".model.freeze_embeddings: is no number, "
         "so it needs choices"),
        ("model: {keep_layers: {low: 0, high: 1}}", ".model.keep_layers: is no number, so it needs "
         "choices"),
        ("training: {loss: {choices: focal}}", ".training.loss: choices: found 'focal', expected "
         "list"),
        ("training: {loss: {choices: []}}", ".training.loss: choices: found [], List should have "
         "at least 1 item after validation, not 0"),
        ("training: {loss: {choices: [focal, focal]}}", ".training.loss: ['focal', "
         "'focal'] names one twice"),
        ("model: {keep_layers: {choices: [[0], null, [0]]}}", ".model.keep_layers: [[0], "
         "None, [0]] names one twice"),
        ("training: {warmup: {choices: [1, 1.0]}}", ".training.warmup: [1, 1.0] names one "
         "twice"),
        ("training: {epochs: {choices: [1, 2], low: 1, log: true}}", ".training.epochs: give "
         "choices, or a range; log, low is too much (null removes it)"),
        ("model: {low: 0, high: 1}", ".model: is no number, so it needs choices"),
        ("model: {choices: [tiny, liner]}", ".model: choices: 'liner': no such choice (did you "
         f"mean linear?); {MODELS}"),
        ("model: {word_ngrams: {low: 1, high: 2}}", ".model.word_ngrams: the chosen model has no "
         "such key"),
        ("training: {lr: {low: 0.5, high: 2.0}}", ".training.lr: found 2.0, expected less than or "
         "equal to 1"),
        ("training: {warmup: {low: -1.0, high: 0.5}}", ".training.warmup: found -1.0, expected "
         "greater than or equal to 0"),
        ("training: {epochs: {choices: [2, three]}}", ".training.epochs: found 'three', expected "
         "integer"),
        ("model: {keep_layers: {choices: [[0], [1, 0]]}}", ".model.keep_layers: layers are named "
         "once each, the lowest first: [1, 0]"),
        ("model: {choices: [minilm, hub]}", ": model.encoder: must be given (with model=hub)"),
        ("model: {choices: [tiny, linear], dropout: {choices: [0.25]}}", ": model.dropout: the "
         "chosen model has no such key (with model=linear, model.dropout=0.25)"),
        ("training: {class_loss_weight: {choices: [0.0, 1.0]}}", ": training: class_loss_weight "
         "and contrast_loss_weight are both 0: nothing is minimised (with "
         "training.class_loss_weight=0)"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_was_found_and_expected(space: str, problem: str) -> None:
    assert mistakes(space) == [problem]


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        ("{training.losss: focal}", ": training.losss: no such key (did you mean training.loss?)"),
        ("{training.lr: 0.1}", ": training.lr has a range, and a condition needs its choices"),
        ("{training.loss: hinge}", ": training.loss is never ['hinge'], it is one of "
         "['cross_entropy', 'focal']"),
        ("{training.loss: [focal, hinge]}", ": training.loss is never ['hinge'], it is one of "
         "['cross_entropy', 'focal']"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_hold_is_named(when: str, problem: str) -> None:
    space = f"""
    training:
      lr: {RATES}
      loss: {{choices: [cross_entropy, focal]}}
      focal_gamma: {{low: 0.5, high: 4.0, when: {when}}}
    """
    assert mistakes(space) == [f".training.focal_gamma.when{problem}"]


def test_conditions_are_a_mapping() -> None:
    (problem,) = mistakes("training: {warmup: {choices: [0.5], when: focal}}")
    assert problem == ".training.warmup: when: found 'focal', expected dictionary"


@pytest.mark.parametrize(
    ("when", "overrides", "word"),
    [
        ("{training.loss: []}", [], "training.loss"),
        ("{training.schedule: cosine}", [], "training.schedule"),
        ("{model.pooling: mean}", ["model=linear"], "model.pooling"),
        ("{model: linear}", [], "model"),
        ("{decision: threshold}", [], "decision"),
        ("{training.max_grad_norm: {a: b}}", [], "training.max_grad_norm"),
    ],
)
def test_a_condition_on_what_the_config_never_is_is_named(
    when: str, overrides: list[str], word: str
) -> None:
    """A parameter that never applies would be left out of every trial, and nobody would know."""
    space = f"""
    training:
      loss: {{choices: [cross_entropy, focal]}}
      focal_gamma: {{low: 0.5, high: 4.0, when: {when}}}
    """
    (problem,) = mistakes(space, *overrides)
    assert problem.startswith(f".training.focal_gamma.when: {word}")


@pytest.mark.parametrize(
    ("when", "overrides"),
    [
        ("{training.schedule: [linear, cosine]}", []),
        ("{model: minilm}", []),
        ("{model: linear}", ["model=linear"]),
        ("{decision.policy: argmax}", []),
    ],
)
def test_a_condition_may_name_what_is_not_searched(when: str, overrides: list[str]) -> None:
    space = parse(f"training: {{warmup: {{choices: [0.5], when: {when}}}}}", *overrides)
    assert space.suggest(ask(0)) == {"training.warmup": 0.5}


@pytest.mark.parametrize(
    ("loss", "schedule"),
    [("{training.schedule: cosine}", "{training.loss: focal}"), ("{training.loss: focal}", "{}")],
)
def test_conditions_in_a_circle_are_refused(loss: str, schedule: str) -> None:
    space = f"""
    training:
      loss: {{choices: [cross_entropy, focal], when: {loss}}}
      schedule: {{choices: [linear, cosine], when: {schedule}}}
    """
    (problem,) = mistakes(space)
    assert problem.startswith(": the conditions of training.loss")
    assert problem.endswith(" depend on each other")


def test_all_mistakes_are_named_at_once() -> None:
    found = mistakes(
        "{training: {lrr: {choices: [1]}, epochs: {low: 3, high: 2}}, seed: {choices: [1]}}"
    )
    assert [problem.partition(":")[0] for problem in found] == [
        ".training.lrr", ".training.epochs", ".seed",
    ]  # fmt: skip


@pytest.mark.parametrize("end", [".nan", ".inf", "1" + "0" * 400])
@pytest.mark.parametrize("more", ["", ", step: 0.5", ", log: true"])
def test_a_range_without_a_real_end_is_refused(end: str, more: str) -> None:
    (problem,) = mistakes(f"training: {{warmup: {{low: 0.5, high: {end}{more}}}}}")
    assert problem.startswith(".training.warmup")


def test_parameters_apply_where_their_condition_holds() -> None:
    space = parse(EVERYTHING)
    seen = set()
    for seed in range(30):
        chosen = space.suggest(ask(seed))
        neural = chosen["model"] in ("tiny", "student")
        focal = chosen["training.loss"] == "focal"
        seen.add((chosen["model"], focal))
        assert ("model.dropout" in chosen) == neural
        assert ("model.keep_layers" in chosen) == (chosen["model"] == "tiny")
        assert ("model.word_ngrams" in chosen) == (chosen["model"] == "linear")
        assert ("decision.target_precision" in chosen) == (chosen["decision"] == "threshold")
        assert ("training.focal_gamma" in chosen) == focal
        assert ("training.ema_decay" in chosen) == (focal and neural)
        assert {"training.lr", "training.batch_size", "data.extra"} <= chosen.keys()
    assert len(seen) == 6


def test_what_depends_on_a_branch_that_is_not_taken_is_left_out() -> None:
    """The base has focal loss itself, which must not count: its parameter does not apply."""
    space = parse(
        """
        model: {choices: [linear]}
        training:
          loss: {choices: [focal, cross_entropy], when: {model: linear}}
          schedule: {choices: [linear, cosine], when: {training.loss: cross_entropy}}
          focal_gamma: {choices: [1.0], when: {training.schedule: linear}}
        """,
        "training.loss=focal",
    )
    for seed in range(10):
        chosen = space.suggest(ask(seed))
        assert ("training.schedule" in chosen) == (chosen["training.loss"] == "cross_entropy")
        assert ("training.focal_gamma" in chosen) == (chosen.get("training.schedule") == "linear")


def test_apply_changes_what_was_chosen_and_nothing_else() -> None:
    space = parse(EVERYTHING)
    tiny = config_of("model=tiny")
    config = space.apply(
        {"training.lr": 1e-4, "model.keep_layers": [0, 1], "model": "tiny", "training.patience": 2}
    )
    assert config.model == tiny.model.model_copy(update={"keep_layers": [0, 1]})
    base = config_of()
    assert config.training == base.training.model_copy(update={"lr": 1e-4, "patience": 2})
    assert (config.data, config.decision, config.seed) == (base.data, base.decision, base.seed)
    assert space.apply({}) == base


def test_apply_leaves_the_files_of_a_group_as_they_are() -> None:
    space = parse(EVERYTHING)
    space.apply({"model": "tiny", "model.keep_layers": [0], "model.dropout": 0.5})
    assert space.apply({"model": "tiny"}).model == config_of("model=tiny").model


def test_what_the_config_refuses_is_not_applied() -> None:
    with pytest.raises(UserError, match="no valid config comes of") as caught:
        parse(EVERYTHING).apply({"training.lr": -1.0})
    assert caught.value.problems == ("training.lr: found -1.0, expected greater than 0",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        (["model=tiny"], {"model": "tiny", "model.dropout": 0.1, "model.keep_layers": None}),
        (["model=tiny", "model.keep_layers=[0]"], {"model.keep_layers": [0]}),
        (["model=linear", "model.balanced=false"],
         {"model": "linear", "model.balanced": False, "model.word_ngrams": 2}),
        (["model=student", "training.loss=focal", "training.ema_decay=0"],
         {"training.focal_gamma": 2.0, "training.ema_decay": 0.0}),
        (["model=tiny", "decision=threshold"], {"decision": "threshold"}),
        (["model=tiny", "data.extra=[data/gold.csv]"], {"data.extra": ["data/gold.csv"]}),
    ],
)  # fmt: skip
def test_the_choices_of_a_config_are_found_again(overrides: list[str], chosen: Assignment) -> None:
    space = parse(EVERYTHING)
    config = config_of(*overrides)
    found = space.assignment_of(config)
    assert found.items() >= chosen.items()
    assert space.apply(found) == config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["training.lr=0.01"], "training.lr: 0.01 is not from 1e-05 to 0.001"),
        (["training.batch_size=12"], "training.batch_size: 12 is not on a step of 8 from 8"),
        (["training.patience=7"], "training.patience: 7 is not among [None, 1, 2]"),
        (["model.keep_layers=[1]"], "model.keep_layers: [1] is not among [None, [0], [0, 1]]"),
        (["model=minilm"], "model: is none of tiny, student, linear as they are in configs/"),
        (["model.head=mlp", "training.head_init=random"],
         "model: is none of tiny, student, linear as they are in configs/"),
    ],
)  # fmt: skip
def test_what_a_space_leaves_out_is_named(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match="the search space leaves it out") as caught:
        parse(EVERYTHING).assignment_of(config_of("model=tiny", *overrides))
    assert caught.value.problems == (problem,)


def test_a_key_that_a_config_lacks_is_named() -> None:
    space = parse("model: {dropout: {low: 0.0, high: 0.5}}")
    with pytest.raises(UserError) as caught:
        space.assignment_of(config_of("model=linear"))
    assert caught.value.problems == ("model.dropout: the config has no such key",)


@pytest.mark.parametrize("wrong", [None, True, "0.0002", [1]])
def test_what_is_no_number_is_not_in_a_range(wrong: object) -> None:
    space = parse(f"training: {{lr: {RATES}}}")
    with pytest.raises(ValueError, match=r"is not from 1e-05 to 0\.001"):
        space.encode({"training.lr": wrong})


def test_choices_are_stored_as_json_and_read_back() -> None:
    space = parse(EVERYTHING)
    chosen: Assignment = {
        "model": "tiny", "model.keep_layers": [0, 1], "training.patience": None,
        "data.extra": [], "training.lr": 1e-4, "training.batch_size": 16,
    }  # fmt: skip
    stored = space.encode(chosen)
    assert stored == {**chosen, "model.keep_layers": "[0, 1]", "data.extra": "[]"}
    assert space.decode(stored) == chosen
    assert space.decode({"model.keep_layers": None}) == {"model.keep_layers": None}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_whatever_is_suggested_makes_a_config_that_tells_it(seed: int) -> None:
    space, trial = parse(EVERYTHING), ask(seed)
    chosen = space.suggest(trial)
    config = space.apply(chosen)
    assert space.assignment_of(config) == chosen
    assert space.elsewhere(config) == []
    assert space.decode(trial.params) == chosen
    assert space.encode(chosen) == trial.params
    json.dumps(trial.params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ([], []),
        (["training.lr=1e-4", "model=linear"], []),
        (["training.warmup=0.3", "decision.calibration=vector"], ["training.warmup"]),
        (["data.extra_weight=2", "data.columns={title: headline}"], ["data.extra_weight"]),
        (["seed=5", "name=x", "tracking=wandb", "data.split.seed=3", "runs_dir=y"], []),
    ],
)
def test_differences_elsewhere_are_named_but_for_what_is_held_still(
    overrides: list[str], keys: list[str]
) -> None:
    space = parse(
        f"""
        model: {{choices: [tiny, linear]}}
        decision: {{calibration: {{choices: [temperature, vector]}}}}
        training: {{lr: {RATES}}}
        """,
        "model=tiny",
    )
    assert space.elsewhere(config_of("model=tiny", *overrides)) == keys


def test_another_model_is_elsewhere_in_each_of_its_keys() -> None:
    space = parse(f"training: {{lr: {RATES}}}", "model=tiny")
    keys = space.elsewhere(config_of("model=linear"))
    assert {"model.approach", "model.word_ngrams", "model.encoder"} <= set(keys)
    assert all(key.startswith("model.") for key in keys)


GRID = """
model:
  choices: [tiny, linear]
  word_ngrams: {low: 1, high: 3, when: {model: linear}}
  keep_layers: {choices: [null, [0]], when: {model: tiny}}
training:
  warmup: {low: 0.0, high: 0.3, step: 0.1}
"""


def test_a_grid_is_every_combination_that_applies_once() -> None:
    grid = parse(GRID).grid(0)
    expected: list[Assignment] = [
        {"model": "tiny", "model.keep_layers": layers, "training.warmup": warmup}
        for layers in (None, [0])
        for warmup in (0.0, 0.1, 0.2, 0.3)
    ]
    expected += [
        {"model": "linear", "model.word_ngrams": words, "training.warmup": warmup}
        for words in (1, 2, 3)
        for warmup in (0.0, 0.1, 0.2, 0.3)
    ]

    def in_order(points: list[Assignment]) -> list[str]:
        return sorted(json.dumps(point, sort_keys=True) for point in points)

    assert in_order(grid) == in_order(expected)


def test_every_point_of_a_grid_is_a_config_of_the_space() -> None:
    space = parse(GRID)
    for point in space.grid(3):
        assert space.decode(space.encode(point)) == point
        assert space.assignment_of(space.apply(point)) == point


def test_the_seed_decides_the_order_of_a_grid() -> None:
    assert parse(GRID).grid(1) == parse(GRID).grid(1) != parse(GRID).grid(2)


def test_a_grid_without_end_is_refused() -> None:
    text = (
        f"training: {{lr: {RATES}, warmup: {{low: 0.0, high: 0.5}}, epochs: {{low: 1, high: 2}}}}"
    )
    with pytest.raises(UserError, match="needs a step, or choices") as caught:
        parse(text).grid(0)
    assert caught.value.problems == ("training.lr", "training.warmup")


def test_a_grid_that_is_too_large_is_refused() -> None:
    text = "training: {epochs: {low: 1, high: 101}, batch_size: {low: 1, high: 100}}"
    with pytest.raises(UserError, match="10100 combinations are too many; 10000 may be") as caught:
        parse(text).grid(0)
    assert caught.value.hint == "Give larger steps, or another sampler."
    fits = "training: {epochs: {low: 1, high: 100}, batch_size: {low: 1, high: 100}}"
    assert len(parse(fits).grid(0)) == 10_000


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(),
        st.sampled_from(["focal", "linear", "tiny", "training.loss", "", "x"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["low", "high", "training.loss", "model", "x"]), inner),
    ),
    max_leaves=4,
)  # fmt: skip
SPECS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            "low": VALUES, "high": VALUES, "step": VALUES, "log": VALUES, "choices": VALUES,
            "when": st.one_of(
                VALUES,
                st.dictionaries(
                    st.sampled_from(["training.loss", "model", "model.head", "training", "x"]),
                    VALUES,
                ),
            ),
        },
    ),
    st.fixed_dictionaries({"low": st.floats(0, 1), "high": st.floats(0, 2), "when": VALUES}),
)  # fmt: skip
NAMES = ("lr", "epochs", "loss", "focal_gamma", "patience", "low", "x")


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    space=st.fixed_dictionaries(
        {},
        optional={
            "training": st.one_of(SPECS, st.dictionaries(st.sampled_from(NAMES), SPECS)),
            "model": SPECS,
            "data": st.fixed_dictionaries({"extra": SPECS}),
            "seed": SPECS,
        },
    )
)
def test_any_space_is_read_or_ends_in_a_message(space: Mapping[str, Any]) -> None:
    try:
        found = SearchSpace.parse(space, config_of())
    except UserError as error:
        assert error.problems
        return
    found.apply(found.suggest(ask(0)))
