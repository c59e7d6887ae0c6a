"""Reads feeds (RSS, Atom) and what Reddit and Hacker News answer with, as rows of a table."""

import html
import io
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import Row, Unreadable, object_rows
from tagger.errors import UserError

COLUMNS = ("id", "created_on", "title", "description", "link")
"""Columns of all that is read here; the id is the source's own."""

LONGEST = 2**27
"""Bytes of a feed, which is held in memory."""

END = 4096
"""Bytes at the end of a feed, among which its last tag is."""

_START = re.compile(r"\s*<(\?xml|rss|feed|rdf:RDF)\b", re.IGNORECASE)
_END = re.compile(rb"</(\w+:)?(rss|feed|RDF)\s*>", re.IGNORECASE)
_REMOVED = ("[removed]", "[deleted]")
_HACKER_NEWS = ("story", "comment", "job", "poll", "pollopt")
_REDDIT = ("t1", "t3")  # a comment, a post
_BLOCKS = re.compile("p|br|div|li|ul|ol|dl|d[td]|h[1-6]|tr|table|blockquote|pre|section|article")
_UNSHOWN = ("script", "style")


def is_feed(start: str) -> bool:
    """Whether a text that begins so is XML, and hence a feed or nothing that can be read."""
    return _START.match(start) is not None


def feed_rows(opened: Opened, wanted: Collection[str], others: bool) -> Iterator[Row]:
    """Yield the entries of a feed, in its order; see `read_rows`.

    What is not well-formed is read as far as that can be done: the reader of a feed cannot mend it.

    Raises:
        Unreadable: for XML that is no feed, or is cut off.
        UserError: where feedparser is not installed.
    """
    try:
        import feedparser
    except ModuleNotFoundError:
        raise UserError(
            f"{opened.name} is a feed, and reading it needs feedparser, which is not installed",
            hint="pip install -r requirements-service.txt -c constraints.txt",
        ) from None
    content = opened.stream.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise Unreadable(f"a feed longer than {LONGEST:,} bytes")
    found = feedparser.parse(io.BytesIO(content), sanitize_html=False, resolve_relative_uris=False)
    if not found.version:
        raise Unreadable("this is an XML file, and no feed (RSS, Atom) that can be read")
    if not _END.search(content.replace(b"\0", b"")[-END:]):
        raise Unreadable("the feed never ends: it was cut off; fetch it again")
    entries = ((_pairs(_entry(one)), None) for one in found.entries)
    yield from object_rows(entries, wanted, others, _as_text)


def listed(pairs: Sequence[tuple[str, Any]]) -> list[Any]:
    """Return the items that an answer of Reddit or of Hacker News holds; else the object itself.

    Args:
        pairs: Keys and values of a JSON object, in which objects are such pairs too.

    Returns:
        Pairs of key and value, an object each; a sentence for what is not whole.
    """
    fields = dict(pairs)
    is_item = fields.get("type") in _HACKER_NEWS and {"id", "time"} <= fields.keys()
    try:
        if fields.get("kind") == "Listing" and "data" in fields:
            children = [dict(one) for one in dict(fields["data"])["children"]]
            found = [_reddit(dict(one["data"])) for one in children if one["kind"] in _REDDIT]
        elif "hits" in fields and "nbHits" in fields:
            found = [_hacker_news(dict(hit)) for hit in fields["hits"]]
        elif is_item and (fields.get("deleted") or fields.get("dead")):
            found = []
        elif is_item and "by" in fields:
            found = [fields | _hacker_news(fields)]  # a label beside it stays
        else:
            return [pairs]
    except (KeyError, TypeError, ValueError) as error:
        return [f"looks like an answer of Reddit or Hacker News that is not whole ({error!r})"]
    return [_pairs(one) for one in found if one["title"] or one["description"]]


def plain_text(marked: str) -> str:
    """Return what a browser would show of HTML, a line a paragraph."""
    reader = _Shown()
    reader.feed(marked)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line)


class _Shown(HTMLParser):
    """Collects the text that is shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.unshown = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.unshown += tag in _UNSHOWN
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.unshown -= tag in _UNSHOWN and self.unshown > 0
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.unshown:
            self.parts.append(data.replace("\n", " "))


def _entry(entry: Any) -> dict[str, str | None]:
    """Return an entry of a feed by our columns."""
    texts = [entry.get("summary_detail"), *entry.get("content", ())]
    moment = entry.get("published_parsed") or entry.get("updated_parsed")
    return {
        "id": entry.get("id") or entry.get("link"),
        "created_on": moment and time.strftime("%Y-%m-%d %H:%M:%S", moment),
        "title": " ".join(_shown(entry.get("title_detail")).split()),
        "description": next(filter(None, map(_shown, texts)), ""),
        "link": entry.get("link"),
    }


def _shown(detail: Any) -> str:
    """Return a text of a feed without its markup."""
    if not detail:
        return ""
    text: str = detail["value"]
    return text.strip() if detail.get("type") == "text/plain" else plain_text(text)


def _reddit(data: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a post or a comment by our columns; its texts are Markdown, with `&` written out."""
    text = data.get("selftext") or data.get("body") or ""
    link = data.get("permalink")
    return {
        "id": data["name"],
        "created_on": str(int(float(data["created_utc"]))),
        "title": html.unescape(data.get("title") or ""),
        "description": "" if text in _REMOVED else html.unescape(text),
        "link": link and f"https://www.reddit.com{link}",
    }


def _hacker_news(data: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a story, a comment or a job by our columns, from either of its two interfaces."""
    text = data.get("text") or data.get("story_text") or data.get("comment_text") or ""
    return {
        "id": data.get("objectID") or data["id"],
        "created_on": data.get("created_at_i") or data.get("time"),
        "title": plain_text(data.get("title") or ""),
        "description": plain_text(text),
        "link": data.get("url"),
    }


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [*fields.items()]


def _as_text(value: str | None) -> str | None:
    return value
