import pytest

from tagger.compare.approaches import APPROACHES, ENSEMBLES, choose_approaches
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("name", APPROACHES)
def test_every_approach_is_a_config_that_trains(name: str) -> None:
    load_config(TrainConfig, compose_config("train", APPROACHES[name]))


@pytest.mark.slow
def test_all_approaches_and_ensembles_without_a_choice() -> None:
    approaches = choose_approaches([])
    assert list(approaches.overrides) == list(APPROACHES)
    assert approaches.ensembles == ENSEMBLES


def test_ensembles_need_all_their_members() -> None:
    assert choose_approaches(["linear"]).ensembles == {}
    assert list(choose_approaches(["linear", "frozen"]).ensembles) == ["linear + frozen"]


def test_a_new_approach_is_a_name_with_overrides() -> None:
    approaches = choose_approaches(["long=model=minilm training.epochs=8", "rules"])
    assert approaches.overrides == {
        "long": ["model=minilm", "training.epochs=8"],
        "rules": ["model=rules"],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("linaer", "no approach 'linaer'"),
        ("=x", "no name"),
        ("x=model=minilm training.epoch=8", "did you mean training.epochs"),
    ],
)
def test_what_is_no_approach_is_refused(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose_approaches([given])
