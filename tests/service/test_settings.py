from pathlib import Path

import pytest
import yaml

from tagger.errors import UserError
from tagger.files import REPO_ROOT
from tagger.service.settings import ServiceConfig, load_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_all_settings_have_defaults() -> None:
    settings = load_settings(None, {})
    assert settings == ServiceConfig()
    assert settings.host == "127.0.0.1"
    assert settings.store.startswith("sqlite:///")


def test_what_is_given_goes_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "service.yaml", "port: 9000\nhost: 0.0.0.0\nreview: {lease_seconds: 5}")
    settings = load_settings(file, {"port": 9001})
    assert (settings.port, settings.host, settings.review.lease_seconds) == (9001, "0.0.0.0", 5)
    assert settings.limits == ServiceConfig().limits


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path / "service.yaml", ""), {}) == ServiceConfig()


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path / "service.yaml",
        "prot: 1\nport: high\nlimits: {queue: 0}\nduplicates: {certain: 0.6, likely: 0.8}\n",
    )
    with pytest.raises(UserError) as caught:
        load_settings(file, {})
    assert str(file) in caught.value.summary
    told = "\n".join(caught.value.problems)
    for part in ("did you mean port?", "port: found 'high'", "limits.queue", "likely=0.8"):
        assert part in told


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "mysql://a:secret@b/c", "store.db"])
def test_other_stores_are_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(None, {"store": url})
    assert "sqlite:///FILE" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"), [("a: [", "not yaml"), ("- 1", "expected a mapping"), ("\x00", "not yaml")]
)
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_settings(write(tmp_path / "service.yaml", text), {})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_settings(tmp_path / "none.yaml", {})


def test_the_defaults_are_those_of_the_documentation() -> None:
    text = (REPO_ROOT / "docs/service.md").read_text(encoding="utf-8")
    documented = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert documented == ServiceConfig().model_dump()
