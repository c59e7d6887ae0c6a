"""Runs that are killed, stopped or spread over processes end as if nothing had happened."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tagger.cli import main
from tagger.config.schema import TrainConfig
from tagger.runs import RunFolder
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEADLINE = 120


def overrides(config: TrainConfig) -> list[str]:
    """Turn the parts of a config that differ from the defaults back into a command line."""
    return [
        "data=file",
        f"data.path={config.data.path}",
        f"data.tags={config.data.tags}",
        "data.name=toy",
        "data.split.validation=0.2",
        "data.split.test=0.2",
        "model=tiny",
        "model.freeze_embeddings=false",
        f"model.dropout={config.model.dropout}",
        "training.mixed_precision=fp32",
        "training.threads=1",
        f"training.epochs={config.training.epochs}",
        f"training.batch_size={config.training.batch_size}",
        "training.lr=0.005",
        "training.head_lr=0.01",
        "training.checkpoint_seconds=0",
        f"name={config.name}",
        f"runs_dir={config.runs_dir}",
    ]


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if path.is_file() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not reach {count} lines")


def files(run: RunFolder) -> dict[str, bytes]:
    model = run.path / "model"
    return {name: (model / name).read_bytes() for name in run.meta.model_files}


def test_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tiny_config, tmp_path):
    config = tiny_config(
        f"runs_dir={tmp_path}", "name=whole", "training.epochs=6", "training.batch_size=4",
        "training.checkpoint_seconds=0",
    )  # fmt: skip
    whole = RunFolder(train(config))
    folder = tmp_path / "killed"
    command = [*overrides(config), "name=killed", "if_exists=resume"]
    for lines in (5, 31):  # in the first epoch, and in a later one
        process = start(*command)
        wait_for_lines(folder / "metrics.jsonl", lines)
        process.kill()
        process.wait(10)
    assert not RunFolder(folder).finished
    process = start(f"resume={folder}")
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    killed = RunFolder(folder)
    assert files(killed) == files(whole)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()
    assert (folder / "predictions.csv").read_bytes() == (
        whole.path / "predictions.csv"
    ).read_bytes()
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_says_how_to_go_on(tiny_config, tmp_path, capfd, number):
    config = tiny_config(f"runs_dir={tmp_path}", "name=stopped", "training.epochs=200")

    def stop() -> None:
        wait_for_lines(tmp_path / "stopped" / "metrics.jsonl", 5)
        os.kill(os.getpid(), number)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(SystemExit) as ended:
        main(["train", *overrides(config)])
    stopper.join(DEADLINE)
    output = "".join(capfd.readouterr())
    assert ended.value.code == 130
    assert f"resume={tmp_path / 'stopped'}" in output
    assert "Traceback" not in output
    assert list((tmp_path / "stopped" / "checkpoints").glob("step-*"))


def two_machines(folder: Path) -> list[Path]:
    """Write the config of docs/multi-node.md for two machines, which both are this one."""
    page = (ROOT / "docs" / "multi-node.md").read_text(encoding="utf-8")
    config = page.split("```yaml\n")[1].split("```")[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = config.replace("10.0.0.1", "127.0.0.1").replace("29500", str(port))
    files = [folder / "machine0.yaml", folder / "machine1.yaml"]
    for rank, file in enumerate(files):
        file.write_text(config.replace("machine_rank: 0", f"machine_rank: {rank}"))
    return files


def test_two_machines_agree_with_one_process(tiny_config, tmp_path):
    # Without dropout: its masks differ by process. 36 rows by 8 leave a last batch of 4.
    config = tiny_config(
        f"runs_dir={tmp_path}", "name=one", "training.epochs=2", "training.batch_size=8",
        "model.dropout=0",
    )  # fmt: skip
    one = RunFolder(train(config))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)),
                *("train.py", *overrides(config), "name=two"),
            ],
            cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for file in two_machines(tmp_path)
    ]  # fmt: skip
    outputs = [machine.communicate(timeout=DEADLINE)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    two = RunFolder(tmp_path / "two")
    assert two.meta.processes == 2
    for name in ("model.safetensors", "head.safetensors"):
        first = load_file(one.path / "model" / name)
        second = load_file(two.path / "model" / name)
        assert max(float((first[k] - second[k]).abs().max()) for k in first) < 1e-5


def test_accelerate_launch_gives_the_run_of_plain_python(tiny_config, tmp_path):
    config = tiny_config(f"runs_dir={tmp_path}", "name=plain", "training.epochs=2")
    plain = RunFolder(train(config))
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"),
            *("--dynamo_backend", "no", "train.py", *overrides(config), "name=launched"),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, text=True,
        capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert files(RunFolder(tmp_path / "launched")) == files(plain)
