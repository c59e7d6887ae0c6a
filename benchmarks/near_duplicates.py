"""What becomes a group of near-duplicates: planted ones, questions, frames, footers, real sets.

    python benchmarks/near_duplicates.py [--data DATASET.csv STREAM.csv ...] [--show 20]

Planted: a changed copy of every fifth row is added; counted are the copies that end in the group of
their original (recall), and the links from copies that lead there and nowhere else (precision).

Made sets (seeded, the texts are ours) in which no row repeats another, though all share their
words: 60 intents with 40 short questions each, and tickets with one footer, signature, disclaimer
or sentence frame. Counted are rows that share a group with another text, and rows of one half of
the set that are left out as near-duplicates of the other half.

Real sets: number and size of groups, seconds, and the pairs that are in one group and were not, or
were and are not, when groups were chains of texts that overlap by half, rare or not.
"""

import argparse
import csv
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tagger.data import duplicates
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.splits import unseen_items
from tagger.environment import describe_environment
from tagger.files import REPO_ROOT, write_json

EVERY = 5
SEEDS = 3
Change = Callable[[Item, random.Random, list[str]], Item]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="CSV files beside gold")
    parser.add_argument("--show", type=int, default=0, help="print so many of the changed pairs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/near_duplicates.json"))
    options = parser.parse_args()
    real = {path.name: read(path) for path in [REPO_ROOT / "data/gold.csv", *options.data]}
    made = {name: make(0) for name, make in MADE.items()}

    print("| made set | rows | in a group with another text | of a half left out |")
    print("|---|---|---|---|")
    strangers = {name: shares_lost(items) for name, items in made.items()}
    for name, (grouped, left_out) in strangers.items():
        print(f"| {name} | {len(made[name])} | {grouped:.2%} | {left_out:.2%} |")

    planted: dict[str, dict[str, list[float]]] = {}
    sets = real | {name: made[name] for name in PLANTED_IN}
    print("\nplanted: recall, precision\n\n| change | " + " | ".join(sets) + " |")
    print("|---" * (len(sets) + 1) + "|")
    for change_name, change in CHANGES.items():
        cells = planted[change_name] = {}
        for name, items in sets.items():
            seeds = range(SEEDS if len(items) < 5000 else 1)
            counts = np.sum([planted_repeats(items, change, seed) for seed in seeds], axis=0)
            precision = counts[2] / counts[3] if counts[3] else float("nan")
            cells[name] = [float(counts[0] / counts[1]), float(precision)]
        shown = [f"{recall:.3f}, {precision:.3f}" for recall, precision in cells.values()]
        print(f"| {change_name} | " + " | ".join(shown) + " |")

    changes = {name: compare_with_chains(items, options.show) for name, items in real.items()}
    write_json(
        options.out,
        {
            "strangers": strangers,
            "planted": planted,
            "real": changes,
            "environment": describe_environment().model_dump(),
        },
    )


def read(path: Path) -> list[Item]:
    """Read titles and descriptions, whatever else the file has."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Item(row["id"], row["title"], row["description"]) for row in csv.DictReader(file)]


def shares_lost(items: Sequence[Item]) -> tuple[float, float]:
    """Return the share of rows in groups of several texts, and of every second row left out."""
    texts_of = defaultdict(set)
    groups = group_near_duplicates(items)
    for item, group in zip(items, groups, strict=True):
        texts_of[group].add(item.content_hash)
    grouped = sum(len(texts_of[group]) > 1 for group in groups) / len(items)
    train, test = items[::2], items[1::2]
    return grouped, 1 - len(unseen_items(test, train)) / len(test)


def compare_with_chains(items: Sequence[Item], show: int) -> dict[str, object]:
    """Print the groups of a real set, and what of them changed from chains of plain overlap."""
    start = time.process_time()
    now = group_near_duplicates(items)
    seconds = time.process_time() - start
    before, now_pairs = pairs_of(chains(items)), pairs_of(now)
    lost, gained = sorted(before - now_pairs), sorted(now_pairs - before)
    largest = sorted(Counter(now).values(), reverse=True)[:5]
    print(
        f"\n{len(items)} rows: {len(set(now))} groups, the largest {largest}, {seconds:.1f} s; "
        f"pairs: {len(now_pairs)} now, {len(before)} before, {len(lost)} lost, {len(gained)} gained"
    )
    for name, changed in (("lost", lost), ("gained", gained)):
        for one, two in random.Random(0).sample(changed, min(show, len(changed))):
            print(f"  {name}: {items[one].text[:100]!r} ~ {items[two].text[:100]!r}")
    return {
        "rows": len(items),
        "groups": len(set(now)),
        "largest": largest,
        "seconds": seconds,
        "pairs": {"now": len(now_pairs), "lost": len(lost), "gained": len(gained)},
    }


def pairs_of(groups: Sequence[int]) -> set[tuple[int, int]]:
    """Return the pairs of rows that are in one group."""
    rows = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    return {pair for one in rows.values() for pair in itertools.combinations(one, 2)}


def chains(items: Sequence[Item]) -> list[int]:
    """Group what is linked by plain overlap, or by any long title or description, as a chain."""
    titles = [duplicates.normalise(item.title) for item in items]
    rests = [duplicates.normalise(item.description) for item in items]
    texts = [f"{title} {rest}".strip() for title, rest in zip(titles, rests, strict=True)]
    shingles = duplicates._shingle_matrix(texts)
    sizes = np.diff(shingles.indptr)
    ones, twos = [np.arange(0)], [np.arange(0)]
    for start in range(0, len(texts), duplicates.ROWS):
        shared = (shingles[start : start + duplicates.ROWS] @ shingles.T).tocoo()
        one, two = shared.row + start, shared.col
        close = shared.data >= duplicates.OVERLAP * (sizes[one] + sizes[two] - shared.data)
        ones.append(one[close])
        twos.append(two[close])
    for keys, words in (
        (texts, 0),
        (titles, duplicates.TITLE_WORDS),
        (rests, duplicates.DESCRIPTION_WORDS),
    ):
        first: dict[str, int] = {}
        long = [row for row, key in enumerate(keys) if key and key.count(" ") + 1 >= words]
        ones.append(np.array([first.setdefault(keys[row], row) for row in long], dtype=int))
        twos.append(np.array(long, dtype=int))
    one, two = np.concatenate(ones), np.concatenate(twos)
    links = coo_array((np.ones(len(one)), (one, two)), shape=(len(texts), len(texts)))
    groups: list[int] = connected_components(links, directed=False)[1].tolist()
    return groups


def planted_repeats(items: list[Item], change: Change, seed: int) -> tuple[int, int, int, int]:
    """Return copies found, copies planted, right links, all links of copies."""
    rng = random.Random(seed)
    words = [word for item in items for word in item.text.split()]
    originals = list(range(seed % EVERY, len(items), EVERY))
    before = group_near_duplicates(items)
    groups = group_near_duplicates([*items, *(change(items[row], rng, words) for row in originals)])
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups[: len(items)]):
        members.setdefault(group, []).append(row)
    found = right = links = 0
    for copy, original in enumerate(originals, start=len(items)):
        linked = members.get(groups[copy], [])
        found += original in linked
        right += sum(before[row] == before[original] for row in linked)
        links += len(linked)
    return found, len(originals), right, links


def change_case(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Shout the title and lower the description."""
    return replace(item, title=item.title.upper(), description=item.description.lower())


def change_punctuation(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Drop the punctuation that is there and put some where none was."""

    def change(text: str) -> str:
        bare = "".join(sign if sign.isalnum() or sign.isspace() else " " for sign in text)
        return ", ".join(bare.split()) + "!"

    return replace(item, title=change(item.title), description=change(item.description))


def change_order(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Put the end of title and description before their beginning."""

    def change(text: str) -> str:
        parts = text.split()
        cut = rng.randint(1, max(1, len(parts) - 1))
        return " ".join(parts[cut:] + parts[:cut])

    return replace(item, title=change(item.title), description=change(item.description))


def change_word(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Replace a word of the title and one of the description by words of other rows."""

    def change(text: str) -> str:
        parts = text.split()
        if len(parts) > 1:
            parts[rng.randrange(len(parts))] = rng.choice(words)
        return " ".join(parts)

    return replace(item, title=change(item.title), description=change(item.description))


CHANGES: dict[str, Change] = {
    "case": change_case,
    "punctuation": change_punctuation,
    "order": change_order,
    "a word": change_word,
}


def change_typo(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Swap two neighbouring letters of a long word, in the title and in the description."""

    def change(text: str) -> str:
        parts = text.split()
        long = [at for at, word in enumerate(parts) if len(word) > 4]
        if long:
            at = rng.choice(long)
            cut = rng.randrange(1, len(parts[at]) - 2)
            word = parts[at]
            parts[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        return " ".join(parts)

    return replace(item, title=change(item.title), description=change(item.description))


def drop_word(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Leave out a word of the title and one of the description."""

    def change(text: str) -> str:
        parts = text.split()
        if len(parts) > 1:
            del parts[rng.randrange(len(parts))]
        return " ".join(parts)

    return replace(item, title=change(item.title), description=change(item.description))


def add_word(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Put a word of another row into the title and one into the description."""

    def change(text: str) -> str:
        parts = text.split()
        if parts:
            parts.insert(rng.randint(0, len(parts)), rng.choice(words))
        return " ".join(parts)

    return replace(item, title=change(item.title), description=change(item.description))


def append_sentence(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Add six words of other rows at the end."""
    ending = " ".join(rng.choice(words) for _ in range(6))
    return replace(item, description=f"{item.description} {ending}".strip())


def retell_title(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Give the description to a title of other words; an item of one text keeps it."""
    if not item.description:
        return item
    return replace(item, title=" ".join(rng.choice(words) for _ in range(4)))


CHANGES: dict[str, Change] = {
    "case": change_case,
    "punctuation": change_punctuation,
    "order of the words": change_order,
    "another word": change_word,
    "typo": change_typo,
    "a word less": drop_word,
    "a word more": add_word,
    "a sentence more": append_sentence,
    "another title": retell_title,
}


def questions_of_common_words(seed: int) -> list[Item]:
    """Make 60 intents, each a matter of a product; their questions share all words."""
    rng = random.Random(seed)
    return [
        Item(f"{seed}-{intent}-{at}", text, "", tag=f"{matter} {product}")
        for intent, (product, matter) in enumerate(itertools.product(PRODUCTS, MATTERS))
        for at, text in enumerate(
            draw(rng, lambda m=matter, p=product: rng.choice(MATTERS[m]).format(p))
        )
    ]


def questions_of_own_words(seed: int) -> list[Item]:
    """Make 60 intents that have a word of their own; their questions share the others."""
    rng = random.Random(seed)

    def ask(word: str) -> str:
        return rng.choice(ABOUT).format(word, rng.choice(PRODUCTS))

    return [
        Item(f"{seed}-{word}-{at}", text, "", tag=word)
        for word in SUBJECTS
        for at, text in enumerate(draw(rng, lambda w=word: ask(w)))
    ]


def draw(rng: random.Random, ask: Callable[[], str]) -> list[str]:
    """Draw 40 different questions, some with a greeting before or a remark behind."""
    texts: set[str] = set()
    while len(texts) < 40:
        question = f"{rng.choice(BEFORE)}{ask()}{rng.choice(BEHIND)}?"
        texts.add(question[0].upper() + question[1:])
    return sorted(texts)


def tickets(n: int, seed: int, before: str = "", after: str = "", share: float = 1.0) -> list[Item]:
    """Make different tickets, of which a share have one text before or after their own."""
    rng = random.Random(seed)
    items = []
    for at in range(n):
        about = f"{rng.choice(FAULTS)} {rng.choice(THINGS)} {rng.choice(WHERE)}"
        own = f"{about}, number {rng.randrange(10**6)} of {rng.choice(NAMES)}."
        text = f"{before} {own} {after}".strip() if at < share * n else own
        items.append(Item(f"t{at}", f"Ticket {at}", text, tag=f"tag {at % 2}"))
    return items


def framed(n: int, seed: int) -> list[Item]:
    """Make packages that are described by one sentence with another word in it."""
    rng = random.Random(seed)
    letters = "bcdfghklmnprstvz"
    names = ["".join(rng.choice(letters) + rng.choice("aeiou") for _ in "abc") for _ in range(n)]
    uses = rng.sample(list(itertools.product(SUBJECTS, THINGS)), n)
    return [
        Item(f"p{at}", name, f"A Python package for {subject} {thing}s")
        for at, (name, (subject, thing)) in enumerate(zip(names, uses, strict=True))
    ]


PRODUCTS = (
    "card", "virtual card", "transfer", "top up", "direct debit", "cash withdrawal",
    "account", "refund", "payment", "savings pot", "exchange", "statement",
)  # fmt: skip
MATTERS = {
    "refused": (
        "why was my {} declined", "my {} did not go through", "why is my {} not working",
        "what do I do if my {} gets refused", "why can't I use my {}",
    ),
    "late": (
        "why is my {} still pending", "when will my {} arrive", "how long does a {} take",
        "my {} has not shown up", "is there a delay with my {}",
    ),
    "cost": (
        "is there a fee for a {}", "why was I charged for my {}", "how much does a {} cost",
        "what do I pay for a {}", "can I get a {} for free",
    ),
    "unknown": (
        "I do not recognise this {}", "who made this {}", "there is a {} that is not mine",
        "what is this {} I see", "why do I see a {} that I did not make",
    ),
    "change": (
        "how do I cancel my {}", "can I change my {}", "how can I stop my {}",
        "where do I edit my {}", "is it possible to take back my {}",
    ),
}  # fmt: skip
ABOUT = (
    "how do I get a {} for my {}", "why was my {} {} refused", "where can I see the {} of my {}",
    "what is the {} of a {}", "can you help with the {} on my {}", "do I need a {} for a {}",
    "when do you check the {} of a {}", "I do not understand the {} of my {}",
    "why is the {} on my {} wrong", "how do I change the {} of my {}",
)  # fmt: skip
SUBJECTS = (
    "passcode", "fingerprint", "beneficiary", "passport", "overdraft", "currency", "merchant",
    "salary", "invoice", "mortgage", "insurance", "voucher", "cashback", "subscription",
    "delivery", "selfie", "limit", "interest", "tariff", "surname", "address", "email", "phone",
    "notification", "login", "password", "signature", "pension", "loan", "tax", "receipt",
    "charity", "iban", "swift", "dollar", "machine", "country", "language", "age", "employer",
    "landlord", "cheque", "deposit", "discount", "coupon", "budget", "category", "chart", "alert",
    "contract", "guarantee", "warranty", "complaint", "lawyer", "witness", "copy", "barcode",
    "magnet", "chip", "envelope",
)  # fmt: skip
BEFORE = (
    "", "", "", "hi, ", "hello, ", "please tell me, ", "sorry, ", "quick question, ",
    "I would like to know, ", "can someone tell me, ",
)  # fmt: skip
BEHIND = (
    "", "", "", " please", " today", " from abroad", " in the app", " on my phone", " right now",
    " again", " at the weekend", " for a friend", " before Monday",
)  # fmt: skip
FAULTS = (
    "cannot open", "lost", "wants to return", "asks for", "broke", "cannot find", "has two of",
    "paid twice for", "never got", "wants another", "complains of noise from", "cannot update",
)  # fmt: skip
THINGS = (
    "printer", "router", "keyboard", "laptop", "invoice", "parcel", "monitor", "charger", "modem",
    "headset", "camera", "tablet", "scanner", "battery", "speaker", "watch",
)  # fmt: skip
WHERE = (
    "since the last update", "at the office", "after a fall", "on the train", "in the new house",
    "for three weeks", "since the storm", "with the old cable", "in the morning", "while abroad",
)  # fmt: skip
NAMES = (
    "Ahmed", "Birgit", "Chen", "Dolores", "Emeka", "Fatima", "Goran", "Hana", "Ivo", "Jelena",
    "Kofi", "Lucia", "Marek", "Nadia", "Olu", "Priya", "Quentin", "Rosa", "Sven", "Tala",
)  # fmt: skip
FOOTER = (
    "Dear team, thank you for looking at this as soon as possible. This message and what is "
    "attached to it are confidential and meant for the person named above."
)
DISCLAIMER = " ".join(
    f"Clause {n}: the {thing} is provided as it is, and no {subject} follows from its use."
    for n, (thing, subject) in enumerate(zip(THINGS, SUBJECTS, strict=False))
)
SIGNATURE = "Kind regards, Robin Example, Example Works Ltd., 12 High Street, phone 555 0100"

MADE: dict[str, Callable[[int], list[Item]]] = {
    "60 intents, common words": questions_of_common_words,
    "60 intents, a word of their own": questions_of_own_words,
    "400 tickets, footer": lambda seed: tickets(400, seed, after=FOOTER),
    "20 tickets, footer": lambda seed: tickets(20, seed, after=FOOTER),
    "20 tickets, footer in half": lambda seed: tickets(20, seed, after=FOOTER, share=0.5),
    "400 tickets, signature in half": lambda seed: tickets(400, seed, after=SIGNATURE, share=0.5),
    "400 tickets, greeting before": lambda seed: tickets(400, seed, before=FOOTER),
    "400 tickets, long disclaimer": lambda seed: tickets(400, seed, after=DISCLAIMER),
    "12,000 tickets, long disclaimer": lambda seed: tickets(12_000, seed, after=DISCLAIMER),
    "20 packages, one frame": lambda seed: framed(20, seed),
    "400 packages, one frame": lambda seed: framed(400, seed),
}
PLANTED_IN = ("60 intents, common words", "400 tickets, footer", "400 packages, one frame")


if __name__ == "__main__":
    main()
