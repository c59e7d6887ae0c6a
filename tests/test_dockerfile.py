"""The Dockerfile, read and checked against what it copies, installs and starts; none is built."""

import fnmatch
import json
import re
import shlex
import tomllib
import urllib.parse
from pathlib import Path

import pytest

from tagger.cli import build_parser
from tagger.files import REPO_ROOT

Stage = list[tuple[str, str]]


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    text = (REPO_ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and line[0] != "#"]
    found: list[Stage] = []
    for name, rest in lines:
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def of(stage: Stage, name: str) -> list[str]:
    return [rest for found, rest in stage if found == name]


def sent(path: Path) -> bool:
    """Whether a file is sent to the builder: the last line of .dockerignore that fits decides."""
    kept = True
    relative = path.relative_to(REPO_ROOT).as_posix()
    above = [relative, *(parent.as_posix() for parent in Path(relative).parents)]
    for line in (REPO_ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        nested = pattern.removeprefix("**/")
        if any(
            fnmatch.fnmatch(one, pattern)
            or (nested != pattern and fnmatch.fnmatch(Path(one).name, nested))
            for one in above
        ):
            kept = line.startswith("!")
    return kept


def test_everything_that_is_copied_is_there_and_is_sent(stages: list[Stage]) -> None:
    build, _ = stages
    for line in of(build, "COPY"):
        *sources, _ = line.split()
        for source in sources:
            found = list(REPO_ROOT.glob(source))
            assert found and all(map(sent, found)), source
    needed = [*(REPO_ROOT / "src/tagger").rglob("*.html"), *(REPO_ROOT / "configs").rglob("*.yaml")]
    assert all(map(sent, needed)) and sent(REPO_ROOT / "data" / "tags.yaml")
    assert not any(sent(REPO_ROOT / name) for name in (".git/config", "runs/x", "data/gold.csv"))
    assert not sent(REPO_ROOT / "configs/local/default.yaml")


def test_extras_that_are_installed_exist_and_bring_no_torch(stages: list[Stage]) -> None:
    project = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', " ".join(of(stages[0], "RUN")))
    for extra in extras.split(","):
        assert "torch" not in " ".join(project["optional-dependencies"][extra])
    python = of(stages[0], "FROM")[0].split()[0]
    assert python == of(stages[1], "FROM")[0]  # a venv works only with the Python that made it
    low, high = re.findall(r"3\.(\d+)", project["requires-python"])
    assert int(low) <= int(re.findall(r"3\.(\d+)", python)[0]) < int(high)


def test_what_runs_is_the_service_as_nobody_in_particular(stages: list[Stage]) -> None:
    _, final = stages
    assert of(final, "COPY") == ["--from=build /venv /venv"]
    (user,) = of(final, "USER")
    assert user.isdigit() and int(user) > 0 and user in " ".join(of(final, "RUN"))
    names = [name for name, _ in final]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name == "RUN")
    entry, command = json.loads(of(final, "ENTRYPOINT")[0]), json.loads(of(final, "CMD")[0])
    options = build_parser().parse_args([*entry[1:], *command])
    assert entry[0] == "tagger" and options.command.__name__ == "_serve"
    (volume,) = of(final, "VOLUME")
    assert options.store.startswith(f"sqlite:///{volume}/")
    assert f"--owner tagger {volume}" in " ".join(of(final, "RUN"))


def test_its_health_is_asked_where_the_service_answers(stages: list[Stage]) -> None:
    settings = pytest.importorskip("tagger.service.settings")
    app = pytest.importorskip("tagger.service.app")
    _, final = stages
    flags, _, rest = of(final, "HEALTHCHECK")[0].partition("CMD ")
    python, dash_c, code = json.loads(rest)
    assert (python, dash_c) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    url = urllib.parse.urlsplit(re.findall(r"'(http://[^']+)'", code)[0])
    config = settings.ServiceConfig()
    assert url.port == config.port == int(of(final, "EXPOSE")[0])
    assert url.hostname in config.hosts
    assert f'"{url.path}"' in Path(app.__file__).read_text()
    assert all(flag.startswith("--") for flag in shlex.split(flags))
