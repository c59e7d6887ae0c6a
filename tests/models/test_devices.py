"""Which device a model computes on when it is used."""

from typing import Any

import numpy as np
import pytest
import torch

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.devices import choose_device, move_to_device
from tagger.models.ensemble import EnsembleClassifier
from tagger.models.linear import LinearClassifier

ITEMS = [Item("1", "apple", "pear")]


class Linear(LinearClassifier):
    def __init__(self) -> None:
        self.tags = ("a", "b")


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torch's `meta` device, which computes no values, play the GPU."""
    there = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: there)


def test_auto_is_the_gpu_where_there_is_one(meta: None) -> None:
    assert choose_device("auto") == torch.device("meta")
    assert choose_device("cpu") == torch.device("cpu")


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device={wanted}: there is no such device here"):
        choose_device(wanted)


def test_models_of_torch_move_and_so_do_those_in_an_ensemble(
    meta: None, tiny_classifier: Any
) -> None:
    before = tiny_classifier.predict_proba(ITEMS)
    move_to_device(tiny_classifier, "cpu")
    np.testing.assert_array_equal(tiny_classifier.predict_proba(ITEMS), before)
    ensemble = EnsembleClassifier([Linear(), tiny_classifier])
    move_to_device(ensemble, "auto")
    assert {one.device.type for one in tiny_classifier.module.parameters()} == {"meta"}
    assert {one.device.type for one in tiny_classifier.pad([[1]])} == {"meta"}


def test_what_torch_does_not_compute_stays_and_says_so() -> None:
    move_to_device(Linear(), "auto")
    move_to_device(Linear(), "cpu")
    with pytest.raises(UserError, match=r"device=cuda: a model of Linear is computed on the CPU"):
        move_to_device(Linear(), "cuda")
