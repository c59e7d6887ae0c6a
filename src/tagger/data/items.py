"""Defines an item: title and description, with id, date and tag."""

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import datetime

FIELDS = ("id", "created_on", "title", "description", "tag")

# A title that ends in one of these closes its own sentence.
_SENTENCE_ENDS = (".", "!", "?", ":", ";", "…", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of content.

    Args:
        id: What the source calls it, exactly as written there.
        title: Stripped; may be empty when there is a description.
        description: Stripped; empty when there is none.
        created_on: Moment of publication, in UTC, without a zone.
        tag: The tag that people gave it; None for what is yet to be tagged.
        source: Name of the file that it comes from, where there are several. It is no part of the
            content: no hash covers it.
        weight: What it counts in training, above 0; the content hash does not cover it.
    """

    id: str
    title: str
    description: str
    created_on: datetime | None = None
    tag: str | None = None
    source: str = ""
    weight: float = 1.0

    @property
    def text(self) -> str:
        """What a model reads: title and description as sentences, whitespace collapsed."""
        title, description = " ".join(self.title.split()), " ".join(self.description.split())
        if not (title and description):
            return title or description
        stop = "" if title.endswith(_SENTENCE_ENDS) else "."
        return f"{title}{stop} {description}"

    @property
    def content_hash(self) -> str:
        """SHA-256 (64 hexadecimal digits) that ignores case, spacing and Unicode variants."""
        folded = f"{fold(self.title)}\n{fold(self.description)}"
        return hashlib.sha256(folded.encode()).hexdigest()


def fold(text: str) -> str:
    """Make texts equal that differ only in case, spacing or Unicode form (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
