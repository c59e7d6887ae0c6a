import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tagger.data.items import Item
from tagger.files import REPO_ROOT

REQUEST = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:)?//")
CHROMIUM = Path("/usr/bin/chromium")
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a link to nowhere is an error."""
    if find_spec("mkdocs") is None:
        pytest.skip("requirements-docs.txt is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPO_ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_built_and_none_asks_for_anything_from_elsewhere(site: Path) -> None:
    docs = REPO_ROOT / "docs"
    for page in docs.rglob("*.md"):
        name = "index" if page.stem == "README" else page.stem
        assert (site / page.relative_to(docs).with_name(f"{name}.html")).exists(), page
    pages = sorted(site.rglob("*.html"))
    assert not [page for page in pages if REQUEST.search(page.read_text(encoding="utf-8"))]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text("utf-8"))


@pytest.mark.slow
def test_a_page_reads_without_javascript(site: Path) -> None:
    bare = re.sub(r"<script.*?</script>", "", (site / "config.html").read_text("utf-8"), flags=re.S)
    assert "<code>training.label_smoothing</code>" in bare
    assert re.search(r'<a href="tutorial.html"[^>]*>', bare)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(site: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("chromium is missing (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 800})
        page.set_default_timeout(20_000)
        for name, made in (("extend", "md-code__nav"), ("statistics", "md-typeset__scrollwrap")):
            page.goto((site / f"{name}.html").as_uri())
            page.locator(f".{made}").first.wait_for()  # by the theme's scripts
            results = axe.run(page)
            assert not results.violations_count, results.generate_report()
        browser.close()


@pytest.mark.slow
def test_files_outside_docs_have_pages(site: Path) -> None:
    results = (site / "repository" / "benchmarks" / "RESULTS.html").read_text(encoding="utf-8")
    assert (site / "repository/benchmarks/plots/guarantee.png").exists()
    assert "Approaches: 5-fold" in results
    assert "target_precision" in (site / "repository/configs.html").read_text(encoding="utf-8")


def test_the_readme_fits_and_leads_to_what_is_there() -> None:
    text = (REPO_ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    links = re.findall(r"(?:\]\(|src=\")([^)#:\"]+)", text)
    assert len(links) > 20
    assert not [link for link in links if not (REPO_ROOT / link).exists()]
    first_screen = text.split("## What you get")[0]
    for command in ("make run", "make test"):
        assert f"\n{command} " in first_screen
        target = command.split()[1]
        assert f"\n{target}:" in (REPO_ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_examples_of_extending_work() -> None:
    names: dict[str, object] = {}
    for block in CODE.findall((REPO_ROOT / "docs" / "extend.md").read_text(encoding="utf-8")):
        exec(block, names)
    loss, asks = names["GeneralizedCrossEntropy"], names["asks"]
    assert callable(loss) and callable(asks)
    value = loss(0.7)(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
    assert value.shape == (2,)
    assert 0 < value[0] < value[1] < 1 / 0.7
    assert asks(Item("1", "Why GPUs?", ""))
    assert not asks(Item("2", "GPUs", "Why?"))
