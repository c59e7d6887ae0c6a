import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.conftest import Runs

from tagger.files import REPO_ROOT

pytest.importorskip("fastapi")
pytest.importorskip("feedparser")


@pytest.mark.slow
def test_the_demo_shows_items_that_come_in_and_leaves_nothing(shared_runs: Runs) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPO_ROOT / "src")}
    given = ["--run", "words", "--runs-dir", str(shared_runs.folder), "--items", "25", "--rate"]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        except OSError:
            pass  # by another program: the better
        demo = subprocess.Popen(
            [sys.executable, "-m", "tagger.demo", *given, "50"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if line.startswith("All items are in"):
                break
        url, port = re.findall(r"(http://127\.0\.0\.1:(\d+))/review", told)[0]
        assert port != "8080"
        sent = re.findall(r"^(\d+) items: .* (\d+) there already$", told, re.MULTILINE)
        assert [int(count) for count, _ in sent] == [5] * 5
        assert sent[2][1] == "1"  # which the first source had brought
        key = re.findall(r"/review +(tg_\S+)", told)[0]
        answer = httpx.get(f"{url}/v1/review", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        folder = Path(re.findall(r"--input (\S+)/shop\.csv", told)[0])
        assert (folder / "store.db").exists()
        demo.send_signal(signal.SIGINT)
        assert "its store and its keys are gone" in demo.stdout.read()
        assert demo.wait(20) == 0
        demo.stdout.close()
    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")
