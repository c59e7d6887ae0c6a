"""Completes the site of mkdocs.yml: pages without a place, and files outside docs/.

Pages link to files of the repository as they lie (`../configs/train.yaml`), so that the links work
on a forge and in an editor too. Here each of these files becomes a page below `repository/`.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = "repository/"
LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".csv": "text", ".txt": "text"}
LONGEST = 600
"""Lines of a file that its page shows."""

AS_THEY_ARE = {".md", ".png", ".svg"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that the navigation does not name at its end."""
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    pages = {path.relative_to(config.docs_dir).as_posix() for path in _pages(config)}
    if config.nav is not None and (rest := sorted(pages - named)):
        config.nav.append({"More": rest})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to."""
    waiting = _pages(config)
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            target = Path(os.path.normpath(page.parent / link))
            uri = _uri(target)
            if not uri.startswith(OUTSIDE) or not target.exists() or uri in files.src_uris:
                continue
            if target.suffix in AS_THEY_ARE:
                file = File.generated(config, uri, abs_src_path=str(target))
                waiting += [target] if target.suffix == ".md" else []
            else:
                file = File.generated(config, uri, content=_shown(target))
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages."""
    uri = page.file.src_uri
    source = ROOT / (uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else f"docs/{uri}")

    def lead(link: re.Match[str]) -> str:
        target = _uri(Path(os.path.normpath(source.parent / link[0])))
        known = target in files.src_uris
        return posixpath.relpath(target, posixpath.dirname(uri) or ".") if known else link[0]

    return LINK.sub(lead, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Make the theme's page one that screen readers and the keyboard can do with.

    The colour schemes follow the system, so nobody needs the hidden buttons that the theme tells
    them by; and the corner of a table with names on two sides is no heading.
    """
    return re.sub(r"<th( [^>]*)?></th>", r"<td\1></td>", _accessible(output))


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """Do so with the page for addresses that lead nowhere."""
    return _accessible(output)


def _accessible(output: str) -> str:
    named = output.replace('<div class="md-search"', '<div aria-label="Search" class="md-search"')
    return named.replace('<input class="md-option"', '<input tabindex="-1" class="md-option"')


def _pages(config: MkDocsConfig) -> list[Path]:
    return sorted(Path(config.docs_dir).rglob("*.md"))


def _uri(target: Path) -> str:
    """Return where a file or a folder of the repository is on the site."""
    if target == ROOT or not target.is_relative_to(ROOT):
        return str(target)
    path = target.relative_to(ROOT)
    if path.parts[:1] == ("docs",):
        return path.relative_to("docs").as_posix()
    return f"{OUTSIDE}{path.as_posix()}{'' if path.suffix in AS_THEY_ARE else '.md'}"


def _shown(target: Path) -> str:
    """Return the page of a folder, or of a file that is no page itself: its text, or its name."""
    page = [f"# {target.relative_to(ROOT).as_posix()}"]
    for file in sorted(target.rglob("*.*")) if target.is_dir() else [target]:
        if target.is_dir():
            page.append(f"## {file.relative_to(target).as_posix()}")
        if file.suffix in LANGUAGES:
            lines = file.read_text(encoding="utf-8").splitlines()
            if len(lines) > LONGEST:
                lines = [*lines[:LONGEST], f"... and {len(lines) - LONGEST} more lines"]
            page.append("\n".join([f"````{LANGUAGES[file.suffix]}", *lines, "````"]))
    return "\n\n".join(page) + "\n"
