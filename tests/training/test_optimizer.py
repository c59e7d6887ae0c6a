import pytest

from tagger.training.optimizer import build_optimizer, schedule_factor


def rates_by_name(classifier, optimizer):
    names = {id(p): name for name, p in classifier.module.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_each_layer_learns_at_its_own_rate(tiny_classifier, tiny_config):
    config = tiny_config(
        "training.lr=1e-4", "training.head_lr=1e-2", "training.layer_decay=0.5",
        "training.weight_decay=0.1",
    ).training  # fmt: skip
    rates = rates_by_name(tiny_classifier, build_optimizer(tiny_classifier.module, config))
    assert rates["head.weight"] == (1e-2, 0.1)
    assert rates["head.bias"] == (1e-2, 0.0)
    assert rates["encoder.encoder.layer.1.output.dense.weight"] == (1e-4, 0.1)
    assert rates["encoder.encoder.layer.0.output.dense.weight"] == (5e-5, 0.1)
    assert rates["encoder.embeddings.position_embeddings.weight"] == (2.5e-5, 0.1)


def test_every_trainable_parameter_is_optimized_once_and_no_frozen_one(
    tiny_classifier, tiny_config
):
    optimizer = build_optimizer(tiny_classifier.module, tiny_config().training)
    optimized = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trainable = [id(p) for p in tiny_classifier.module.parameters() if p.requires_grad]
    assert sorted(optimized) == sorted(trainable)
    frozen = tiny_classifier.module.encoder.get_input_embeddings().weight
    assert id(frozen) not in optimized


@pytest.mark.parametrize(
    ("kind", "middle", "last"),
    [("linear", 0.5, 1 / 90), ("cosine", 0.5, 0.0003), ("constant", 1, 1)],
)
def test_schedule_rises_then_falls(kind, middle, last):
    factors = [schedule_factor(kind, step, 100, 0.1) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert 0 < factors[0] < 0.2
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(middle, abs=0.01)
    assert factors[99] == pytest.approx(last, abs=0.001)


def test_one_step_and_no_warmup_still_learn():
    assert schedule_factor("linear", 0, 1, 0.0) == 1.0
    assert schedule_factor("cosine", 0, 1, 0.9) > 0
