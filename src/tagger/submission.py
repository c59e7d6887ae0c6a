"""Sends the items of a table or a feed to a service, and none of them twice.

Each item is a request, whose Idempotency-Key is made of the item's id and content. To send a file
again, after a kill too, therefore stores nothing again, and of a feed only what is new since it was
fetched last. Several requests are under way at once, which the service commits together.
"""

import hashlib
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Lock
from urllib.parse import urlsplit

import httpx

from tagger.data.columns import UNSAID, TableFormat
from tagger.data.problems import Problems
from tagger.data.readers import PIPE, readable_twice
from tagger.data.sources import open_file
from tagger.data.validation import describe_blank, item_of
from tagger.errors import UserError, first_line
from tagger.progress import progress_bar

SUGGESTED = "suggested_tag"
"""Column of a tag that the submitter thinks right: evidence for the people who review."""

TOGETHER = 8
"""Requests that are under way at once."""

LONGEST_ID = 200
"""Characters of an id that a service takes; a longer one ends in its hash."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 15.0
"""Between two tries of an item; each wait is twice the one before."""

PATIENCE_SECONDS = 60.0
"""How long an item is tried again while the service is busy, or not there."""

ANSWER_SECONDS = 30.0
"""How long an answer is waited for."""

BUSY = frozenset({429, 502, 503, 504})
"""What an item is tried again after; nothing was kept then, or the same key finds what was."""

WRONG_PLACE = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 421})
"""What no item can be sent after."""

Fields = dict[str, str]
"""An item as it is sent: those of id, title, description and suggested_tag that it has."""


@dataclass
class Outcome:
    """What became of a file.

    Attributes:
        decisions: How often the service decided what; "" for items that it did not take.
        failed: Where those are.
    """

    failed: Path
    decisions: Counter[str] = field(default_factory=Counter)


def submit_file(
    source: str | Path,
    url: str,
    *,
    key: str | None = None,
    name: str = "",
    rate: float | None = None,
    failed: Path | None = None,
    how: TableFormat = UNSAID,
) -> Outcome:
    """Send all items of a source, in order, to a service that keeps them.

    Args:
        source: A table or a feed; `-` for standard input.
        url: Of the service.
        key: Of the role submit or admin; None where the service needs none.
        name: Goes before the ids (`NAME:ID`), where several sources may have the same.
        rate: Most items a second; None: as fast as the service takes them.
        failed: JSON Lines to which the items are added that cannot be read, or that the service
            does not take, with the reason; the default is named as the source is.
        how: How to read the source.

    Raises:
        UserError: for a source that cannot be read, of which nothing is sent then; for a service
            that is not there, or that lets nobody in with this key.
    """
    ending = ".failed.jsonl"
    if failed is None:
        failed = Path(f"submit{ending}" if str(source) == PIPE else f"{source}{ending}")
    if failed.suffix != ".jsonl" or failed == Path(source):
        raise UserError(f"--failed {failed}: expected another file, whose name ends in .jsonl")
    outcome = Outcome(failed)
    with readable_twice(source) as path:
        rows = list_rows(path, name, how)
        total = sum(1 for _ in rows)
        with _Service(url, key, rate) as service, progress_bar(total, "submit", "item") as bar:
            for item, reason, decision in service.send_all(list_rows(path, name, how)):
                outcome.decisions[decision] += 1
                if reason:
                    _keep(failed, item | {"reason": reason})
                bar.update()
    return outcome


def list_rows(path: Path, name: str, how: TableFormat = UNSAID) -> Iterator[tuple[Fields, str]]:
    """Yield each item of a file, and why it cannot be sent; "" for one that can.

    Raises:
        UserError: after the last one, when the file is damaged or cut off.
    """
    table, problems = open_file(path, how.delimiter), Problems()
    columns = table.find_texts(how) if table.header else {}
    for row in table.rows([*columns.values(), SUGGESTED], problems, broken=True):
        item = item_of(row, columns)
        fields = {"title": item.title, "description": item.description}
        if "id" in columns and item.id.strip():  # else it would be the row's number, which changes
            fields["id"] = _shortened(f"{name}:{item.id}" if name else item.id)
        fields[SUGGESTED] = (row.values.get(SUGGESTED) or "").strip()
        problem = row.problem
        if not problem and not item.text:
            problem = f"{row.place}: no text: {describe_blank(columns)}"
        yield {key: value for key, value in fields.items() if value}, problem
    problems.raise_if_any(f"{path} cannot be read:")


class _Service:
    """A service that items are sent to, by several threads."""

    def __init__(self, url: str, key: str | None, rate: float | None) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UserError(f"--url {url}: expected such as http://127.0.0.1:8080")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url
        # Servers close a connection after some seconds without a request: given up before.
        limits = httpx.Limits(keepalive_expiry=2)
        self.client = httpx.Client(
            base_url=url, headers=headers, timeout=ANSWER_SECONDS, limits=limits
        )
        self.pool = ThreadPoolExecutor(TOGETHER)
        self.stopped = Event()
        self.pause = 1 / rate if rate else 0.0
        self._lock = Lock()
        self._next = time.monotonic()
        self._told = False

    def __enter__(self) -> "_Service":
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self.pool.shutdown(cancel_futures=True)
        self.client.close()

    def send_all(self, rows: Iterator[tuple[Fields, str]]) -> Iterator[tuple[Fields, str, str]]:
        """Yield each item with why it was not taken, and with what was decided of it."""
        waiting: deque[tuple[Fields, Future[tuple[str, str]]]] = deque()
        for item, problem in rows:
            if problem:
                yield item, problem, ""
                continue
            waiting.append((item, self.pool.submit(self._send, item)))
            if len(waiting) > 2 * TOGETHER:
                sent, future = waiting.popleft()
                yield sent, *future.result()
        for sent, future in waiting:
            yield sent, *future.result()

    def _send(self, item: Fields) -> tuple[str, str]:
        """Return why an item was not taken, and what was decided of it; one of them is ""."""
        self._wait_for_turn()
        content = json.dumps(item, sort_keys=True)
        headers = {"Idempotency-Key": hashlib.sha256(content.encode()).hexdigest()}
        until = time.monotonic() + PATIENCE_SECONDS
        for tries in count():
            wait = min(FIRST_WAIT_SECONDS * 2**tries, LONGEST_WAIT_SECONDS)
            try:
                answer = self.client.post("/v1/items", json={"items": [item]}, headers=headers)
            except httpx.TransportError as error:
                told = f"{self.url} does not answer: {first_line(error)}"
            else:
                told = f"{self.url} answers {answer.status_code}: {_explained(answer)}"
                if answer.status_code in WRONG_PLACE:
                    raise UserError(told, hint="Check --url, and the key: --key-env NAME")
                if answer.status_code == 200:
                    return "", _decision(answer, self.url)
                if answer.status_code not in BUSY:
                    return f"{answer.status_code}: {_explained(answer)}", ""
                after = answer.headers.get("retry-after", "")
                wait = max(wait, float(after) if after.isdigit() else 0.0)
            if self.stopped.is_set() or time.monotonic() + wait > until:
                break
            self._tell(told)
            self.stopped.wait(wait)
        raise UserError(told, hint="The same command goes on: what was sent is not sent again.")

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self.pause
        self.stopped.wait(turn - time.monotonic())

    def _tell(self, what: str) -> None:
        """Say once that there is something to wait for."""
        with self._lock:
            if not self._told:
                print(f"\nnote: {what}; trying again for {PATIENCE_SECONDS:.0f} s", file=sys.stderr)
            self._told = True


def _explained(answer: httpx.Response) -> str:
    """Return what a service says of a refusal, in a line."""
    try:
        body = answer.json()
        return "; ".join([body["error"], *body["problems"]])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def _decision(answer: httpx.Response, url: str) -> str:
    try:
        return str(answer.json()["items"][0]["decision"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise UserError(f"what answers at {url} is no service of tagger") from None


def _shortened(identifier: str) -> str:
    if len(identifier) <= LONGEST_ID:
        return identifier
    return f"{identifier[: LONGEST_ID - 65]}#{hashlib.sha256(identifier.encode()).hexdigest()}"


def _keep(failed: Path, item: Fields) -> None:
    """Add an item to those that failed, unless it is there."""
    line = json.dumps(item, ensure_ascii=False) + "\n"
    with failed.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        if line not in file:
            file.write(line)
