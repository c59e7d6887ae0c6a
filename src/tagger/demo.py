"""Shows the whole product for a while: a run is served, and items come in from several sources.

Everything is made in a temporary folder, which is gone when the demo ends.
"""

import argparse
import csv
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from html import escape
from pathlib import Path

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.columns import UNSAID
from tagger.data.items import Item
from tagger.data.sources import open_file, read_labelled
from tagger.errors import UserError, exit_on_user_error
from tagger.files import REPO_ROOT
from tagger.models.samples import SAMPLES
from tagger.runs import RunFolder, open_run

PORT = 8080
COMMAND = [sys.executable, "-c", "from tagger.cli import main; main()"]
Process = subprocess.Popen[bytes]


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a run and let items come in, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve a run, and let items come in, for a while.")
    parser.add_argument("--run", default="first-run", help="default: %(default)s")
    parser.add_argument("--runs-dir", default="runs", help="default: %(default)s")
    parser.add_argument("--items", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=3.0, help="a second; default: %(default)s")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="tagger-demo-") as name:
        folder = Path(name)
        run = choose_run(options.run, options.runs_dir, folder)
        sources = write_sources(choose_items(run, options.items), folder)
        show(run, sources, folder, options.rate)
    print("\nThe demo has ended; its store and its keys are gone.")


def choose_run(name: str, runs_dir: str, folder: Path) -> RunFolder:
    """Return the named run, or one that is trained in seconds where there is none."""
    with suppress(UserError):
        run = open_run(name, runs_dir)
        if SAMPLES in run.meta.model_files:
            return run
    print(
        f"There is no run {name} to serve (`make run` makes one): training model=linear", flush=True
    )
    from tagger.training.train_run import train

    given = [
        "data=gold", "model=linear", "decision=threshold", "decision.target_precision=0.95",
        "name=demo", f"runs_dir={folder}",
    ]  # fmt: skip
    config = load_config(TrainConfig, compose_config("train", given))
    return RunFolder(train(config, say=lambda text: None))


def choose_items(run: RunFolder, count: int) -> list[Item]:
    """Return items of the embedded data in a fixed order, those first that the run did not see."""
    items = read_labelled([open_file(REPO_ROOT / "data/gold.csv")], UNSAID, None).items
    random.Random(0).shuffle(items)
    seen = {row.content_hash for row in run.split_rows() if row.split != "test"}
    items = sorted(items, key=lambda item: item.content_hash in seen)[:count]
    # A run of other tags would refuse ours as a suggestion.
    return [item if item.tag in run.tags else replace(item, tag=None) for item in items]


def write_sources(items: Sequence[Item], folder: Path) -> list[Path]:
    """Deal items to files of several formats, as they would come from as many places."""
    shop, partner, blog, papers, forum = (items[at::5] for at in range(5))
    few = len(blog) // 5
    blog = [*blog[few:], *shop[:few]]  # which are there already when they come
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["id", "title", "description", "suggested_tag"])
    writer.writerows([one.id, one.title, one.description, one.tag] for one in shop)
    lines = [{"id": one.id, "headline": one.title, "body": one.description} for one in partner]
    entries = [
        f"<item><guid>https://blog.example/?p={one.id}</guid><title>{escape(one.title)}</title>"
        f"<description>{escape(f'<p>{escape(one.description)}</p>')}</description></item>"
        for one in blog
    ]
    abstracts = [
        f"<entry><id>http://papers.example/abs/{one.id}</id><title>{escape(one.title)}</title>"
        f"<summary>{escape(one.description)}</summary></entry>"
        for one in papers
    ]
    posts = [
        {"name": f"t3_{one.id}", "title": escape(one.title), "selftext": escape(one.description)}
        for one in forum
    ]
    children = [{"kind": "t3", "data": {"created_utc": 1767225600.0} | one} for one in posts]
    atom = 'xmlns="http://www.w3.org/2005/Atom"'
    texts = {
        "shop.csv": table.getvalue(),
        "partner.jsonl": "\n".join(map(json.dumps, lines)),
        "blog.rss": f'<rss version="2.0"><channel>{"".join(entries)}</channel></rss>',
        "papers.atom": f"<feed {atom}>{''.join(abstracts)}</feed>",
        "forum.json": json.dumps({"kind": "Listing", "data": {"children": children}}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in texts]


def show(run: RunFolder, sources: Sequence[Path], folder: Path, rate: float) -> None:
    """Serve the run, send the sources, and wait to be told to end."""
    store = f"sqlite:///{folder / 'store.db'}"
    keys = {role: create_key(store, role) for role in ("submit", "read", "review")}
    log = folder / "serve.log"
    with serving(run, store, log) as (server, url):
        print(f"""
{run.name} is served. Sign in with a key:

  what visitors see   {url}/          {keys["read"]}
  what is in doubt    {url}/review    {keys["review"]}
  the interface       {url}/openapi.json, keys of submitters: {keys["submit"]}

Ctrl-C ends it, and throws everything away.
""", flush=True)  # fmt: skip
        for source in sources:
            given = ["submit", "--input", str(source), "--url", url, "--rate", f"{rate:g}"]
            print(f"$ tagger {' '.join(given)}", flush=True)
            environment = os.environ | {"TAGGER_KEY": keys["submit"]}
            subprocess.run([*COMMAND, *given], env=environment, check=False, start_new_session=True)
        print("All items are in.", flush=True)
        server.wait()
        raise UserError(f"the service has ended:\n{log.read_text(encoding='utf-8')}")


def create_key(store: str, role: str) -> str:
    """Make a key of a role, and return it."""
    given = ["keys", "create", "--store", store, "--name", "demo", "--role", role]
    return subprocess.check_output([*COMMAND, *given], text=True).split()[0]


@contextmanager
def serving(run: RunFolder, store: str, log: Path) -> Iterator[tuple[Process, str]]:
    """Start a service; yield its process, once it is ready, and its address."""
    given = ["serve", "--run", str(run.path), "--store", store, "--port", str(choose_port())]
    with log.open("wb") as file:
        # In a session of its own, where Ctrl-C does not reach it: it is ended below.
        server = subprocess.Popen([*COMMAND, *given], stderr=file, start_new_session=True)
    try:
        while "ready: " not in (told := log.read_text(encoding="utf-8")):
            if server.poll() is not None:
                raise UserError(f"the service did not start:\n{told}")
            time.sleep(0.1)
        yield server, told.partition("ready: ")[2].split()[0]
    finally:
        server.terminate()
        server.wait()


def choose_port() -> int:
    """Return the usual port; 0, which is any, where that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


if __name__ == "__main__":
    main()
