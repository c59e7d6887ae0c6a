"""Tests the reading of feeds, on samples in the shape in which these services answer."""

import builtins
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.columns import TableFormat
from tagger.data.problems import Problems
from tagger.data.readers import Row, read_header
from tagger.data.readers.feeds import COLUMNS, plain_text
from tagger.data.sources import iter_unlabelled, open_file
from tagger.errors import UserError

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]

FEEDS = Path(__file__).parent / "feeds"
ARC = (
    "or HN: the Next Iteration\nI get the impression that with Arc being released a lot of people "
    "who never had time for HN before are suddenly dropping in more often.\nWhat's next?"
)
SHUCKS = "Aw shucks, guys ... you make me blush with your compliments.\nTell you what."


@pytest.fixture
def feed_values(values: Values) -> Callable[[Path | str], list[Any]]:
    """Reads all columns of a feed."""
    pytest.importorskip("feedparser")
    return lambda name: values(FEEDS / name, COLUMNS)


def test_rss_is_read_without_its_markup(feed_values: Values) -> None:
    assert feed_values("blog.rss") == [
        (
            "https://notes.example/?p=17",
            "2020-02-20 05:43:18",
            "Pruning & distilling a tagger",
            "Two layers are enough.\nhalf the size\na third of the time",
            "https://notes.example/2020/02/pruning/",
        ),
        (
            "https://notes.example/2020/01/epochs/",  # for want of a guid
            "2020-01-01 00:00:00",
            "When 1 < 2 epochs",
            "Stop early.",
            "https://notes.example/2020/01/epochs/",
        ),
    ]


def test_the_atom_of_arxiv_is_read(feed_values: Values) -> None:
    first, second = feed_values("arxiv.atom")
    assert first == (
        "http://arxiv.org/abs/2601.00001v2",
        "2026-01-01 12:30:00",
        "Tagging with Promises: Selective Classification of Short Texts",
        "We publish a tag only where its precision $p > 0.98$ is\ncertain, and ask a person "
        "otherwise.",
        "https://arxiv.org/abs/2601.00001v2",
    )
    assert second[0] == "http://arxiv.org/abs/cs/0601001v1"


def test_a_listing_of_reddit_is_read(values: Values) -> None:
    post, link, comment = values(FEEDS / "reddit.json", COLUMNS)
    assert post == (
        "t3_1abc",
        "1767261600",
        "[P] Few labels & many tags",
        "I tried <10 labels a tag &amp; it *works*.",
        "https://www.reddit.com/r/MachineLearning/comments/1abc/p_few_labels_many_tags/",
    )
    assert link[2:4] == ("A link, and a text that was removed", "")
    assert comment[2:4] == ("", "A comment.")  # and the deleted one is passed over


def test_the_page_of_a_post_is_two_listings(values: Values, write: Write) -> None:
    listing = (FEEDS / "reddit.json").read_text(encoding="utf-8")
    assert len(values(write("page.json", f"[{listing}, {listing}]"))) == 6


def test_both_interfaces_of_hacker_news_give_an_item_alike(values: Values) -> None:
    dropbox, ask, comment = values(FEEDS / "hacker-news-items.jsonl", COLUMNS)
    assert dropbox[:4] == (
        "8863", "1175714200", "My YC app: Dropbox - Throw away your USB drive", "",
    )  # fmt: skip
    assert ask == ("121003", "1203647620", "Ask HN: The Arc Effect", ARC, None)
    assert comment == ("2921983", "1314211127", "", SHUCKS, None)
    assert values(FEEDS / "hacker-news-algolia.json", COLUMNS) == [ask, comment]


@pytest.mark.parametrize("name", ["blog.rss", "arxiv.atom", "reddit.json"])
def test_a_feed_is_told_by_its_content(feed_values: Values, write: Write, name: str) -> None:
    content = (FEEDS / name).read_bytes()
    expected = feed_values(name)
    assert feed_values(write("standard input", content)) == expected
    assert feed_values(write("a.csv", content)) == expected
    assert feed_values(write("a.xml.gz", gzip.compress(content))) == expected
    assert {*read_header(FEEDS / name, Problems())} == {*COLUMNS}


def test_whatever_reads_items_reads_feeds(feed_values: Values) -> None:
    items = [*iter_unlabelled(FEEDS / "arxiv.atom", TableFormat())]
    assert [item.id for item in items] == [row[0] for row in feed_values("arxiv.atom")]
    assert open_file(FEEDS / "reddit.json").find_texts(TableFormat()) == {
        "id": "id", "title": "title", "description": "description",
    }  # fmt: skip


def test_a_feed_without_entries_has_no_rows(feed_values: Values, write: Write) -> None:
    empty = '<rss version="2.0"><channel><title>nothing yet</title></channel></rss>'
    assert feed_values(write("a.xml", empty)) == []


def test_what_is_not_well_formed_is_read_and_what_is_cut_off_is_not(
    read: Read, feed_values: Values, write: Write
) -> None:
    content = (FEEDS / "blog.rss").read_text(encoding="utf-8")
    loose = write("loose.xml", content.replace("A laboratory's", "A&nbsp;laboratory's"))
    assert feed_values(loose) == feed_values("blog.rss")
    _, problems = read(write("cut.xml", content[:1300]))
    assert problems == ["the feed never ends: it was cut off; fetch it again"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.xml", "<?xml version='1.0'?><note><to>you</to></note>", "no feed (RSS, Atom)"),
        ("a.json", '{"kind": "Listing", "data": {"children": [{"kind": "t3"}]}}', "not whole"),
        ("b.json", '{"kind": "Listing", "data": [1]}', "not whole"),
        ("c.json", '{"nbHits": 1, "hits": null}', "not whole"),
        (
            "d.json",
            '{"type": "story", "by": "us", "id": 1, "time": 1, "text": 3, "title": ["a"]}',
            "not whole",
        ),
    ],
)
def test_what_only_looks_like_a_feed_is_a_problem(
    read: Read, write: Write, name: str, content: str, expected: str
) -> None:
    if name.endswith(".xml"):
        pytest.importorskip("feedparser")
    rows, problems = read(write(name, content))
    assert rows == []
    assert len(problems) == 1
    assert expected in problems[0]


def test_a_label_beside_an_item_stays(values: Values, write: Write) -> None:
    item = (
        '{"id": 1, "time": 1175714200, "type": "story", "by": "us", "title": "a", "tag": "fruit"}'
    )
    assert values(write("a.jsonl", item), ("id", "title", "tag")) == [("1", "a", "fruit")]


def test_rows_of_ones_own_are_not_taken_for_answers_of_a_service(
    values: Values, write: Write
) -> None:
    lines = '{"id": 1, "title": "a", "kind": "Listing"}\n{"id": 2, "title": "b", "type": "story"}\n'
    assert values(write("a.jsonl", lines)) == [("1", "a"), ("2", "b")]


def test_a_missing_feedparser_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def lacking(name: str, *given: Any, **more: Any) -> Any:
        if name == "feedparser":
            raise ModuleNotFoundError(name=name)
        return original(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UserError, match=r"blog\.rss is a feed.* needs feedparser") as caught:
        [*iter_unlabelled(FEEDS / "blog.rss")]
    assert "requirements-service.txt" in caught.value.hint


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("a  b\nc", "a b c"),
        ("<p>a</p>\n<p>b<br>c</p>", "a\nb\nc"),
        ("&lt;b&gt; &amp;amp; &#x27;", "<b> &amp; '"),
        ("<style>p {}</style>a<script>1 < 2</script>b</script>c", "abc"),
        ("a < b", "a < b"),
        ("<img alt='x' src='y'><em>a</em><strong>b</strong>", "ab"),
    ],
)
def test_html_becomes_what_a_browser_shows(marked: str, expected: str) -> None:
    assert plain_text(marked) == expected
