"""Tests downloads against a server of this machine."""

import errno
import hashlib
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tagger.config.schema import DataConfig
from tagger.data import download as download_module
from tagger.data.download import download
from tagger.errors import UserError

MakeData = Callable[..., DataConfig]
CSV = b"id,title,tag\n007,A,red\n8,B,green\n"


class Server(http.server.ThreadingHTTPServer):
    content = CSV
    requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path == "/gone.csv":
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        length = len(self.server.content) + (100 if self.path == "/short.csv" else 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


@pytest.fixture
def pinned(
    server: Server, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., DataConfig]:
    monkeypatch.setenv("TAGGER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def make(name: str = "items.csv", **changes: Any) -> DataConfig:
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        sha256 = hashlib.sha256(CSV).hexdigest()
        values = {"source": "download", "path": None, "url": url, "sha256": sha256, **changes}
        return make_data(**values)

    return make


def cached_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_file_is_downloaded_once(
    server: Server, pinned: Callable[..., DataConfig], tmp_path: Path
) -> None:
    assert [download(pinned()).read_bytes() for _ in range(2)] == [CSV, CSV]
    assert server.requests == 1
    assert [path.name for path in cached_files(tmp_path)] == ["items.csv"]


def test_damaged_copy_is_fetched_again(server: Server, pinned: Callable[..., DataConfig]) -> None:
    path = download(pinned())
    path.write_bytes(CSV[:-10])
    assert download(pinned()).read_bytes() == CSV
    assert server.requests == 2


@pytest.mark.parametrize("name", ["items.csv", "short.csv"])
def test_wrong_file_is_refused_and_not_kept(
    server: Server, pinned: Callable[..., DataConfig], tmp_path: Path, name: str
) -> None:
    server.content = CSV[:-5]
    with pytest.raises(UserError, match="is not the file that was pinned") as caught:
        download(pinned(name))
    assert hashlib.sha256(CSV[:-5]).hexdigest() in caught.value.problems[0]
    assert hashlib.sha256(CSV).hexdigest() in caught.value.problems[1]
    assert cached_files(tmp_path) == []


def test_missing_page_and_missing_network_offer_a_local_copy(
    server: Server, pinned: Callable[..., DataConfig]
) -> None:
    with pytest.raises(UserError, match="HTTP Error 404: Not Found"):
        download(pinned("gone.csv"))
    # Port 9 (discard) of this machine: nobody listens, so the connection is refused at once.
    with pytest.raises(UserError, match="Connection refused") as caught:
        download(pinned(url="http://127.0.0.1:9/items.csv"))
    assert "Is there a network?" in caught.value.hint
    assert "data=file data.name=toy data.path=PATH/items.csv" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        # What the disk refuses is not the network's fault, and keeps its own words elsewhere.
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), UserError),
    ],
)
def test_what_breaks_off_is_blamed_on_the_right_one_and_not_kept(
    pinned: Callable[..., DataConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    raised: type[Exception],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(raised, match=str(error.strerror)):
        download(pinned())
    assert cached_files(tmp_path) == []


def test_stalled_server_is_given_up(
    pinned: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stall(*_: object, timeout: float) -> None:
        assert timeout == download_module.TIMEOUT_SECONDS
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", stall)
    with pytest.raises(UserError, match="timed out"):
        download(pinned())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/items.csv",
        "file:///etc/items.csv",
        "http://example.org/",
        "http://example.org/..",
        "http://[example.org/items.csv",
        "items.csv",
    ],
)
def test_unusable_addresses_are_refused(pinned: Callable[..., DataConfig], url: str) -> None:
    with pytest.raises(UserError, match=r"data\.url="):
        download(pinned(url=url))
