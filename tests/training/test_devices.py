"""Devices, among them Apple's GPU, which has no double precision, played by a kind of tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tagger.config.schema import TrainConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder
from tagger.training import devices
from tagger.training.devices import build_accelerator, overridden_precision, resolve_precision
from tagger.training.train_run import train

NO_DOUBLES = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it"


class OnMps(Tensor):
    """A tensor that refuses double precision, as does all that is computed from it."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is Tensor.cpu:
            return result.as_subclass(Tensor)
        with torch._C.DisableTorchFunctionSubclass():
            for one in tree_leaves((args, kwargs, result)):
                if isinstance(one, Tensor) and one.dtype == torch.float64:
                    raise TypeError(NO_DOUBLES)
        return result


def move_to_mps(module: nn.Module) -> None:
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                moved = parameter.detach().as_subclass(OnMps)
                part._parameters[name] = nn.Parameter(moved, parameter.requires_grad)


@pytest.fixture
def mps(monkeypatch: pytest.MonkeyPatch) -> list[TransformerClassifier]:
    """Puts each classifier that is built on the device; all of them are in the list."""
    built: list[TransformerClassifier] = []
    build = TransformerClassifier.build.__func__  # type: ignore[attr-defined]

    def build_there(cls: Any, *given: Any) -> TransformerClassifier:
        classifier: TransformerClassifier = build(cls, *given)
        move_to_mps(classifier.module)
        built.append(classifier)
        return classifier

    monkeypatch.setattr(TransformerClassifier, "build", classmethod(build_there))
    return built


def test_the_stand_in_refuses_what_the_device_does() -> None:
    there = torch.ones(2).as_subclass(OnMps)
    assert type((there + 1) * 2) is OnMps
    assert type(there.cpu()) is Tensor
    for refused in (
        there.double,
        lambda: there.to(torch.float64),
        lambda: (there * 2).copy_(torch.ones(2, dtype=torch.float64)),
    ):
        with pytest.raises(TypeError, match="MPS"):
            refused()


def test_a_run_is_trained_and_gives_the_answers_that_it_gives_elsewhere(
    mps: list[TransformerClassifier], tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    overrides = ["training.epochs=1", "training.ema_decay=0.9"]
    run = RunFolder(train(tiny_config("name=there", f"runs_dir={tmp_path}", *overrides)))
    assert len(mps) == 1
    assert all(isinstance(one, OnMps) for one in mps[0].module.parameters())
    items = [Item("1", "apple pear", "sweet juice"), Item("2", "iron", "forge")]
    there, here = mps[0].predict_proba(items), run.load_classifier().predict_proba(items)
    np.testing.assert_allclose(there, here, atol=1e-6)
    vectors = mps[0].embed(items)
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(mps[0].predict_from_vectors(vectors), there, atol=1e-6)


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_is_taken(wanted: str) -> None:
    assert resolve_precision(wanted, torch.device("cpu")) == wanted


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_taken_where_the_device_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


def test_a_process_computes_with_its_threads_or_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(devices, "usable_threads", lambda sharers: 8 // sharers)
    build_accelerator(3)
    build_accelerator(None)
    build_accelerator(None, sharers=4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    accelerator = build_accelerator(None)
    assert set_to == [3, 8, 2, 4]
    assert accelerator.mixed_precision == "no"


@pytest.mark.parametrize(
    ("variable", "plan"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
    ],
)
def test_plans_that_divide_the_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, plan: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UserError, match=rf"asks for {plan}, and .*\n.*distributed_type"):
        build_accelerator(1)


def test_one_of_several_processes_that_was_started_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"started this one alone.*\n.*torchrun"):
        build_accelerator(1)
    monkeypatch.delenv("MASTER_ADDR")
    assert build_accelerator(1).num_processes == 1


@pytest.mark.parametrize(
    ("launched", "wanted", "computed", "said"),
    [
        ("bf16", "auto", "bf16", False),
        ("bf16", "fp32", "fp32", True),
        ("no", "auto", "fp32", False),
        ("no", "bf16", "bf16", True),
        ("fp16", "auto", "fp32", True),
        (None, "bf16", "bf16", False),
    ],
)
def test_the_precision_of_the_launch_is_respected_or_its_override_is_said(
    monkeypatch: pytest.MonkeyPatch, launched: str | None, wanted: str, computed: str, *, said: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    precision = resolve_precision(wanted, torch.device("cpu"))
    assert precision == computed
    notes = overridden_precision(precision)
    assert bool(notes) == said
    assert all(f"mixed_precision is {launched}, and {computed}" in note for note in notes)
