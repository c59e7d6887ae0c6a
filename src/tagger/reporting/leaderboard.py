"""Lists runs in a terminal (`tagger leaderboard`), and what two of them were asked differently."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tagger.config.overrides import script_command
from tagger.errors import UserError
from tagger.files import resolve_path
from tagger.leaderboard import Standing, as_document, load_standings, saved_settings
from tagger.reporting.numbers import number, short_score
from tagger.reporting.page import Block, Column, Listing, Table, Text
from tagger.reporting.terminal import print_blocks
from tagger.runs import RunFolder, find_run, resume_command

ABSENT = "-"
NUMBERS = (
    "seed", "test\nrows", "macro F1\nand 95%", "weighted\nF1", "accuracy", "p50\nms", "train\ns",
    "when",
)  # fmt: skip


def print_leaderboard(
    runs_dir: str, where: Mapping[str, str] | None = None, *, as_json: bool = False
) -> None:
    """Print all runs below a folder, as a table that also reads well in a file, or as JSON.

    Args:
        runs_dir: The folder.
        where: Which ones; see `load_standings`.
        as_json: For programs.

    Raises:
        UserError: when there is no such folder.
    """
    folder = resolve_path(runs_dir)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {runs_dir}",
            hint="Give the one that holds the runs: --runs-dir PATH",
        )
    standings, unfinished, damaged = load_standings(folder, where)
    if as_json:
        print(as_document(standings, unfinished, damaged).model_dump_json(indent=2))
        return
    blocks: list[Block] = []
    if not (standings or unfinished or damaged):
        nothing = f"No runs in {folder} yet; python train.py makes one."
        blocks.append(Text(f"No run in {folder} fits --where." if where else nothing))
    if standings:
        columns = [*map(Column, ("run", "data", "model")), *(Column(n, "number") for n in NUMBERS)]
        blocks.append(Table(columns, [_cells(one) for one in standings]))
    blocks += map(Text, notes(standings))
    if unfinished:
        blocks.append(Text("Unfinished, still in training or stopped:"))
        lines = [f"{run.name}: go on with {resume_command(run.path)}" for run in unfinished]
        blocks.append(Listing(lines))
    if damaged:
        blocks.append(Text("Damaged:"))
        blocks.append(Listing([problem.replace("\n", "\n  ") for problem in damaged]))
    print_blocks(blocks)


def print_difference(names: Sequence[str], runs_dir: str, *, as_json: bool = False) -> None:
    """Print the settings that two runs do not share, as a table or as JSON.

    Raises:
        UserError: when one of them is not there.
    """
    runs = [RunFolder(find_run(name, runs_dir)) for name in names]
    first, second = map(saved_settings, runs)
    rows = {
        key: [first.get(key, ABSENT), second.get(key, ABSENT)]
        for key in sorted(first.keys() | second.keys())
        if key not in first or key not in second or first[key] != second[key]
    }
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        columns = [Column("key"), *(Column(run.name) for run in runs)]
        print_blocks([Table(columns, [[key, *map(str, pair)] for key, pair in rows.items()])])
    else:
        print_blocks([Text("Both were asked for the same.")])


def notes(standings: Sequence[Standing]) -> list[str]:
    """Say what a reader of the table should know before comparing two of its rows."""
    sentences = []
    test_rows: dict[str, set[frozenset[str]]] = defaultdict(set)
    for one in standings:
        if one.report is not None:
            test_rows[one.data].add(one.test_rows)
    for data, kinds in test_rows.items():
        if len(kinds) > 1:
            sentences.append(
                f"{data}: these runs were tested on different rows (their data.split differs), so "
                "a part of the difference between their scores is chance."
            )
    if len({one.data for one in standings}) > 1:
        sentences.append("Runs on different data are listed apart: their scores don't compare.")
    missing = [one for one in standings if one.report is None]
    if missing:
        command = script_command("evaluate.py", run=missing[0].run.path)
        sentences.append(f"{ABSENT}: not evaluated; {command}")
    return sentences


def _cells(one: Standing) -> list[str]:
    meta, report = one.run.meta, one.report
    scores = [ABSENT] * 4
    rows = meta.data.rows.get("test", 0)
    if report is not None:
        overall = report.overall
        rows = overall.num_samples
        scores = [
            short_score(overall.macro_f1),
            number(overall.weighted_f1.value, 3),
            number(overall.accuracy.value, 3),
            number(report.latency.p50_ms, 1),
        ]
    trained = number(meta.train_seconds, 0)
    when = (meta.finished_on or ABSENT)[:10]
    named = [one.run.name, one.data, one.run.model_name]
    return [*named, str(meta.seed), str(rows), *scores, trained, when]
