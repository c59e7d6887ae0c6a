import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.errors import UserError
from tagger.ladder.rungs import ENSEMBLES, RUNGS, choose_rungs


@pytest.mark.parametrize("name", RUNGS)
def test_every_rung_is_a_config_that_trains(name: str) -> None:
    load_config(TrainConfig, compose_config("train", RUNGS[name]))


def test_all_rungs_and_ensembles_without_a_choice() -> None:
    ladder = choose_rungs([])
    assert list(ladder.rungs) == list(RUNGS)
    assert ladder.ensembles == ENSEMBLES


def test_ensembles_need_all_their_members() -> None:
    assert choose_rungs(["linear"]).ensembles == {}
    assert list(choose_rungs(["linear", "frozen"]).ensembles) == ["linear + frozen"]


def test_a_new_rung_is_a_name_with_overrides() -> None:
    ladder = choose_rungs(["long=model=minilm training.epochs=8", "rules"])
    assert ladder.rungs == {
        "long": ["model=minilm", "training.epochs=8"],
        "rules": ["model=rules"],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("linaer", "no rung 'linaer'"),
        ("=x", "no name"),
        ("x=model=minilm training.epoch=8", "did you mean training.epochs"),
    ],
)
def test_what_is_no_rung_is_refused(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose_rungs([given])
