"""Publishing and fetching runs, with a hub that runs here: no test talks to the real one."""

import base64
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import ModelCard, constants

from tagger.cli import main
from tagger.config.composition import compose_config
from tagger.errors import UserError
from tagger.hub import PUBLISHED, check_repository, files_to_push
from tagger.runs import RunFolder

Files = dict[str, bytes]


class FakeHub(ThreadingHTTPServer):
    """As much of the hub's protocol as uploading and fetching a repository takes."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.private: dict[str, bool] = {}
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repository: str, revision: str = "main") -> tuple[str, Files]:
        """Return the commit that a revision is, and its files."""
        commits = self.commits[repository]
        commit = list(commits)[-1] if revision == "main" else revision
        return commit, commits[commit]

    def commit(self, repository: str, files: Files) -> str:
        commits = self.commits.setdefault(repository, {})
        name = hashlib.sha1(f"{repository}{len(commits)}".encode()).hexdigest()
        commits[name] = files
        return name


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").replace("%40", "@")
        try:
            if path.startswith("api/models/"):
                owner, name, kind, revision = [*path.split("/")[2:], "revision", "main"][:4]
                commit, files = self.server.files(f"{owner}/{name}", revision)
                if kind == "tree":
                    self.answer(
                        [
                            {"type": "file", "path": one, "size": len(content), "oid": "0" * 40}
                            for one, content in files.items()
                        ]
                    )
                else:
                    listed = [{"rfilename": one} for one in files]
                    self.answer({"id": f"{owner}/{name}", "sha": commit, "siblings": listed})
                return
            owner, name, _, revision, *file = path.split("/")
            commit, files = self.server.files(f"{owner}/{name}", revision)
            content = files["/".join(file)]
        except KeyError:
            codes = {"api": "RepoNotFound"}
            known = "/".join(path.split("/")[:2]) in self.server.commits
            code = "EntryNotFound" if known else codes.get("api", "")
            self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)
            return
        etag = hashlib.sha1(content).hexdigest()
        self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=commit)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            made = repository not in self.server.commits
            if made:
                self.server.private[repository] = asked.get("visibility") == "private"
                self.server.commit(repository, {".gitattributes": b"*.onnx filter=lfs"})
            self.answer({"url": f"{self.server.url}/{repository}"}, 200 if made else 409)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer({"files": modes})
        elif "/commit/" in self.path:
            repository = "/".join(self.path.split("/")[3:5])
            files = dict(self.server.files(repository)[1])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            commit = self.server.commit(repository, files)
            url = f"{self.server.url}/{repository}/commit/{commit}"
            self.answer({"success": True, "commitOid": commit, "commitUrl": url})
        else:
            self.answer({"error": self.path}, 404)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def tagger(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Runs the command, for which there is no hub but the fake one."""
    monkeypatch.setenv("TAGGER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))

    def run(*arguments: str, online: bool = True, url: str = hub.url) -> Done:
        # What HF_ENDPOINT and HF_HUB_OFFLINE set when the library is imported.
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not online)
        code = 0
        try:
            main(arguments)
        except SystemExit as stop:
            code = int(str(stop.code))
        return Done(code, *capsys.readouterr())

    return run


def push(tagger: Callable[..., Done], run: RunFolder) -> str:
    """Push a run, and return the name that it has on the hub."""
    done = tagger("push", "--run", str(run.path), "us/toy", "--yes", "--license", "mit")
    assert done.code == 0, done.err
    return done.out.splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_was_pushed_is_read_back(hub, tagger, copy_run):
    run = copy_run("tiny")
    (run.path / "report.html").write_text("texts of items")
    name = push(tagger, run)
    commit, files = hub.files("us/toy")
    assert name == f"hf:us/toy@{commit}"
    assert {one for one in files if "/" not in one or one[0].isdigit()} == {
        *run.meta.model_files, "README.md", ".gitattributes",
    }  # fmt: skip
    assert {one for one in files if one.startswith("run/")} <= {f"run/{one}" for one in PUBLISHED}
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "text-classification")
    assert 'SentenceTransformer("us/toy")' in card.text

    asked = ("--title", "apple and plum", "--description", "juice")
    expected = tagger("predict", "--run", str(run.path), *asked).out
    assert "fruit" in expected
    shutil.rmtree(run.path)
    for one, online in ((name, True), ("hf:us/toy", True), (name, False), ("hf:us/toy", False)):
        done = tagger("predict", "--run", one, *asked, online=online)
        assert (done.code, done.out) == (0, expected), done.err


@pytest.mark.slow
def test_another_run_takes_the_place_of_the_first(hub, tagger, copy_run):
    run = copy_run("tiny")
    first = push(tagger, run)
    shutil.rmtree(run.path / "model" / "1_Pooling")
    names = [one for one in run.meta.model_files if not one.startswith("1_Pooling")]
    changed = {one: run.meta.model_files[one] for one in names}
    run.meta.model_copy(update={"model_files": changed}).write(run.path / "meta.json")
    second = push(tagger, run)
    assert first != second
    assert "1_Pooling/config.json" in hub.files("us/toy", first.partition("@")[2])[1]
    assert "1_Pooling/config.json" not in hub.files("us/toy")[1]
    assert ".gitattributes" in hub.files("us/toy")[1]


@pytest.mark.slow
def test_nothing_is_uploaded_without_an_answer(hub, tagger, tiny_run):
    done = tagger("push", "--run", str(tiny_run.path), "us/toy")
    assert done.code == 2 and "--yes" in done.err
    assert "model.safetensors" in done.out
    assert hub.commits == {}
    private = tagger("push", "--run", str(tiny_run.path), "us/toy", "--yes", "--private")
    assert private.code == 0 and hub.private == {"us/toy": True}


def refused(done: Done) -> str:
    assert done.code == 2 and done.out == ""
    return done.err.partition("error: ")[2]  # after the bars of a download


@pytest.mark.slow
def test_a_file_that_is_not_the_recorded_one_is_refused(hub, tagger, tiny_run, tmp_path):
    name = push(tagger, tiny_run)
    _, files = hub.files("us/toy")
    files["tagger.json"] = files["tagger.json"].replace(b"fruit", b"metal")
    message = refused(tagger("predict", "--run", name, "--text", "x"))
    assert "model/tagger.json has sha256" in message
    assert not list((tmp_path / "cache").rglob("meta.json"))


@pytest.mark.slow
def test_a_repository_can_not_name_files_elsewhere(hub, tagger, tiny_run, tmp_path):
    push(tagger, tiny_run)
    _, files = hub.files("us/toy")
    meta = json.loads(files["run/meta.json"])
    meta["model_files"] |= {"../../escaped": "0" * 64}
    files["run/meta.json"] = json.dumps(meta).encode()
    message = refused(tagger("predict", "--run", "hf:us/toy", "--text", "x"))
    assert "../../escaped" in message


@pytest.mark.slow
def test_what_is_not_there_is_one_message(hub, tagger, tiny_run, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's attempts
    hub.commit("us/other", {"config.json": b"{}"})
    for name in ("hf:us/other", "hf:us/nowhere", "hf:us/other@v9"):
        assert f"{name} could not be fetched" in refused(
            tagger("predict", "--run", name, "--text", "x")
        )
    nowhere = {"url": "http://127.0.0.1:9"}
    message = refused(tagger("predict", "--run", "hf:us/other", "--text", "x", **nowhere))
    assert "It takes a network" in message
    done = tagger("push", "--run", str(tiny_run.path), "us/toy", "--yes", **nowhere)
    assert done.code == 2
    assert "us/toy could not be uploaded" in done.err and "It takes a network" in done.err


@pytest.mark.parametrize("name", ["toy", "us/", "a/b/c", "us/to y", "../x/y"])
def test_names_that_are_no_repository_are_refused(name):
    with pytest.raises(UserError, match="ORG/NAME"):
        check_repository(name)


def test_a_damaged_model_is_not_pushed(copy_run):
    run = copy_run()
    (run.path / "model" / "tagger.json").write_text("{}")
    with pytest.raises(UserError, match="damaged or was changed"):
        files_to_push(run)


def test_configs_take_the_name_of_a_repository():
    name = "hf:us/toy@0123abc"
    assert compose_config("evaluate", [f"run={name}"])["run"] == name
