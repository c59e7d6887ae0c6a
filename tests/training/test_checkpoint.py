import pytest
import torch
from torch import nn

from tagger.errors import UserError
from tagger.training.checkpoint import (
    Progress,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
    trainable_weights,
)

CPU = torch.device("cpu")


@pytest.fixture
def trained():
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    take_step(module, optimizer)
    return module, optimizer


def take_step(module, optimizer):
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_restored_training_takes_the_same_next_step(tmp_path, trained):
    module, optimizer = trained
    progress = Progress(step=1, epoch=0, batch=1, best_metric=0.5, best_step=1)
    progress.best_weights = trainable_weights(module)
    save_checkpoint(tmp_path, module, optimizer, progress)
    take_step(module, optimizer)

    other = nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    restored = load_checkpoint(tmp_path, other, other_optimizer, CPU)
    take_step(other, other_optimizer)
    assert torch.equal(module.weight, other.weight)
    assert (restored.step, restored.best_metric) == (1, 0.5)
    assert torch.equal(restored.best_weights["weight"], progress.best_weights["weight"])


def test_only_the_newest_checkpoint_is_kept(tmp_path, trained):
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, *trained, Progress(step=step))
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000010"]


def test_failed_write_leaves_the_older_checkpoint(tmp_path, trained, monkeypatch):
    save_checkpoint(tmp_path, *trained, Progress(step=1))

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tagger.training.checkpoint.write_json", no_space)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, *trained, Progress(step=2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_remains_of_a_killed_write_are_no_checkpoint(tmp_path, trained):
    (tmp_path / ".step-00000005").mkdir()
    assert load_checkpoint(tmp_path, *trained, CPU) == Progress()
    save_checkpoint(tmp_path, *trained, Progress(step=5))
    assert load_checkpoint(tmp_path, *trained, CPU).step == 5


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "progress.json"])
def test_damage_is_named_with_the_way_out(tmp_path, trained, name):
    save_checkpoint(tmp_path, *trained, Progress(step=3))
    damaged = tmp_path / "step-00000003" / name
    damaged.write_bytes(damaged.read_bytes()[:9])
    with pytest.raises(UserError, match="step-00000003") as error:
        load_checkpoint(tmp_path, *trained, CPU)
    assert "if_exists=replace" in str(error.value)
