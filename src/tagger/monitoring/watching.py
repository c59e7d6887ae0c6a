"""Opens a watch by a run and closes it: what watching a file and watching a store share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagger.data.items import Item
from tagger.decision.change import asked_last
from tagger.decision.decider import FILE as DECISION_FILE
from tagger.decision.decider import Decider, decision_hash, load_decider
from tagger.errors import UserError
from tagger.files import only_process
from tagger.models.tokenization import TOKENIZER, load_tokenizer
from tagger.monitoring.monitor import Incoming, Monitor
from tagger.monitoring.report import MonitorReport, describe
from tagger.monitoring.scores import CONFIDENCE, OOD, PIECES, TAG, score_names
from tagger.monitoring.state import MonitorState, begin_watch
from tagger.runs import RunFolder, read_calibration

STATE_FILE = "state.json"
REPORT_FILE = "monitor.json"

CHUNK = 512
TOKENS = 512
ALPHA = 0.05


@contextmanager
def open_watch(
    run: RunFolder, folder: Path, promise: float | None, alpha: float | None, store: str = ""
) -> Iterator[tuple[Decider, Monitor]]:
    """Open a watch where the last call stopped, or begin one; at the end its report is written.

    Args:
        run: A finished run, the same as before.
        folder: Where the watch is kept.
        promise: Promised precision; by default the run's own, if it has one.
        alpha: Chance of a false alarm ever; default: 0.05.
        store: What tells the store that is watched from others; "" for a table.

    Yields:
        What the run decides by, and what reads its decisions.

    Raises:
        UserError: for another run or stream than before, or another process that watches into the
            folder.
    """
    path = folder / STATE_FILE
    with only_process(path, "writing"):
        decider = load_decider(run.path, run.load_classifier())
        state = MonitorState.read(path) if path.exists() else _begin(run, decider, promise, alpha)
        if state.stream.rows == 0:
            state.store = store
        _check_same(state, run, promise, alpha, store)
        tokenizer = load_tokenizer(run.path / "model", TOKENS) if PIECES in state.names else None
        yield decider, Monitor(state, tokenizer)
        _finish(state, folder)


def accept_alarms(folder: Path) -> MonitorReport:
    """Accept the alarms that stand in a watch: it begins anew with the next rows.

    Raises:
        UserError: when there is no watch, or no alarm stands.
    """
    path = folder / STATE_FILE
    with only_process(path, "writing"):
        state = MonitorState.read(path)
        state.accept()
        return _finish(state, folder)


def _finish(state: MonitorState, folder: Path) -> MonitorReport:
    state.write(folder / STATE_FILE)
    report = describe(state)
    report.write(folder / REPORT_FILE)
    return report


def decide(decider: Decider, items: Sequence[Item]) -> list[Incoming]:
    """Let a run decide on items, at least one."""
    made = decider.decide(items)
    ood = [None] * len(items) if made.ood_scores is None else made.ood_scores.tolist()
    decided = zip(items, made.probabilities, made.tags.tolist(), ood, strict=True)
    return [Incoming(item, "", *rest) for item, *rest in decided]


def _begin(
    run: RunFolder, decider: Decider, promise: float | None, alpha: float | None
) -> MonitorState:
    asked = asked_last(run)
    if promise is None and asked.policy == "threshold":
        promise = asked.target_precision
    pieces, ood = (run.path / "model" / TOKENIZER).is_file(), decider.detector is not None
    names = score_names(run.tags, pieces=pieces, ood=ood)
    return MonitorState(
        run=run.name,
        files=_files(run),
        tags=list(run.tags),
        names=names,
        alpha=ALPHA if alpha is None else alpha,
        promise=promise,
        each_tag=asked.policy == "threshold" and asked.scope == "per_tag",
        home=_home(run, decider, ood),
        watch=begin_watch(names),
    )


def _home(run: RunFolder, decider: Decider, ood: bool) -> dict[str, tuple[int, float, float]]:
    """Return number, mean and deviation of scores on the rows that the decision was fitted to."""
    path = run.path / "calibration.csv"
    if not path.exists():
        return {}
    raw, _, ood_scores = read_calibration(path, run.tags)
    if not len(raw):
        return {}
    probabilities = decider.rule.calibrator.apply(raw)
    best = probabilities.argmax(axis=1)
    columns = {CONFIDENCE: probabilities.max(axis=1)}
    if ood and ood_scores is not None:
        columns[OOD] = ood_scores
    columns |= {TAG + tag: 1.0 * (best == at) for at, tag in enumerate(run.tags)}
    return {name: (len(raw), float(one.mean()), float(one.std())) for name, one in columns.items()}


def _files(run: RunFolder) -> dict[str, str]:
    rule = decision_hash(run.path)
    return {**run.meta.model_files, **({DECISION_FILE: rule} if rule else {})}


def _check_same(
    state: MonitorState, run: RunFolder, promise: float | None, alpha: float | None, store: str
) -> None:
    """Refuse to go on with a watch under other conditions than it began with."""
    problems = []
    if state.store != store:
        problems.append("it watches another store, or a table and no store, or the reverse")
    if state.files != _files(run):
        problems.append(f"it watches the decisions of {state.run}, which {run.name} does not make")
    for name, given, kept in (("promise", promise, state.promise), ("alpha", alpha, state.alpha)):
        if given is not None and given != kept:
            problems.append(f"--{name} {given}: it began with {kept}")
    if problems:
        raise UserError(
            "this watch began under other conditions:", problems, "Begin another: --out FOLDER"
        )
