"""Renders a page as one HTML file that needs nothing beside it and sends no request."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import jinja2

from tagger.files import write_text
from tagger.reporting.page import Embedded, Page

FOLDER = Path(__file__).parent


def templates_in(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder, which escape what they are given and miss nothing."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def pack(data: object) -> str:
    """Return JSON for a script of a page, gzipped, in base64: texts take half of their room."""
    plain = json.dumps(data, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(plain, mtime=0)).decode("ascii")


def write_html(page: Page, path: Path) -> None:
    """Write a page as an HTML file, whole or not at all."""
    write_text(path, render_html(page))


def render_html(page: Page) -> str:
    """Render a page, images in it; no script runs but those whose hashes it states."""
    environment = templates_in(FOLDER)
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["pack"] = pack
    environment.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode("ascii")
    embedded = [block for block in page.blocks if isinstance(block, Embedded)]
    scripts = [(FOLDER / one.script).read_text(encoding="utf-8") for one in embedded]
    return environment.get_template("page.html.j2").render(
        page=page,
        styles=["page.css", *(one.style for one in embedded)],
        scripts=scripts,
        hashes=[
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
            for script in scripts
        ],
    )
