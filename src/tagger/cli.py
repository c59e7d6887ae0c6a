"""Runs the `tagger` command: audits data, compares approaches, and uses finished runs."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.environment import VERSION
from tagger.errors import UserError, exit_on_user_error
from tagger.threads import settle_threads

if TYPE_CHECKING:
    from tagger.data.columns import TableFormat
    from tagger.data.dates import DateOrder
    from tagger.runs import RunFolder
    from tagger.service.settings import ServiceConfig

GATE_FAILED = 1
ALARM_STANDS = 4
NOT_TAKEN = 1

HYDRA_COMMANDS = {
    "train": "make a run: train.py, with the same overrides",
    "evaluate": "judge a run: evaluate.py",
    "optimize": "search for the best config: optimize.py",
}
"""Commands whose arguments Hydra reads, help included."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands below; `tagger --help` lists them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in HYDRA_COMMANDS:
            from tagger.scripts import SCRIPTS

            sys.argv = [f"tagger {given[0]}", *given[1:]]
            SCRIPTS[given[0]]()
            return
        options = build_parser().parse_args(given)
        settle_threads()
        options.command(options)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "tagger":
            raise
        raise UserError(
            f"this needs {error.name}, which is not installed",
            hint="pip install 'tag-or-ask[train]' brings what training and evaluating take; a run "
            "that `tagger export` made answers without.",
        ) from None


class _Completion(argparse.Action):
    """Prints the script by which a shell completes the commands, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: object, *__: object):  # type: ignore[no-untyped-def]
        try:
            import shtab
        except ImportError:
            raise UserError("this needs shtab", hint="pip install shtab") from None
        parsers = [parser]
        while parsers:
            for action in parsers.pop()._actions:
                if isinstance(action, argparse._SubParsersAction):
                    parsers += set(action.choices.values())
                elif action.type is Path or "FILE" in str(action.metavar):
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, str(shell)))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each leaves its function in `command`."""
    parser = argparse.ArgumentParser(prog="tagger", description="Audit data, use runs.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument(
        "--print-completion", action=_Completion, choices=["bash", "zsh", "tcsh"],
        help="print what makes a shell complete these commands, and their options and files",
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument("--runs-dir", default="runs", help="default: %(default)s")
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument(
        "--run",
        required=True,
        help="a run folder, a name below --runs-dir, or hf:ORG/NAME@REVISION",
    )

    for name, text in HYDRA_COMMANDS.items():
        commands.add_parser(name, help=text)
    init = commands.add_parser(
        "init",
        help="write the config that reads a table of yours",
        description="Guess which columns of a table hold what, and write configs/data/NAME.yaml "
        "and data/NAME.tags.yaml for it, to be looked over and changed.",
    )
    init.add_argument("file", type=Path, metavar="FILE", help="CSV, JSON, Parquet, Arrow")
    init.add_argument("--name", help="of the config; default: the file's")
    init.add_argument("--replace", action="store_true", help="write anew what it wrote before")
    _add_table_options(init, labelled=True, tags=False)
    init.set_defaults(command=_init)

    device = argparse.ArgumentParser(add_help=False)
    device.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"],
        help="what models of torch compute on; default: the GPU where there is one",
    )  # fmt: skip
    predict = commands.add_parser(
        "predict",
        parents=[run, runs, device],
        help="give items their tag",
        description="Give one item (--title, --description) or a file of items (--input, --output) "
        "their tags. The input (CSV, JSON, Parquet, Arrow; .gz and .zst) is read as the run's own "
        "source was; it needs a text and nothing else. A command that was stopped goes on where it "
        "was when it is given again.",
    )
    predict.add_argument("--text", help="one item that is one text")
    predict.add_argument("--title", help="one item's title")
    predict.add_argument("--description", help="one item's description")
    predict.add_argument("--input", metavar="FILE", help="a table of items; - is standard input")
    predict.add_argument(
        "--output", metavar="FILE",
        help="where their predictions go: .csv, .jsonl, .parquet (.csv.gz too); - is standard "
        "output",
    )  # fmt: skip
    predict.add_argument(
        "--strict", action="store_true",
        help="refuse a file with a row that can't be answered, which else goes to review",
    )  # fmt: skip
    predict.add_argument(
        "--keep-columns", action="store_true", help="hand on the columns that are not read"
    )
    predict.add_argument(
        "--engine", choices=["local", "ray"],
        help="predict a folder or a pattern of Parquet files into a folder, here or on a cluster "
        "of Ray; both may be addresses such as s3://BUCKET/FOLDER",
    )  # fmt: skip
    predict.add_argument(
        "--workers", type=int, metavar="N",
        help="of --engine ray: start a cluster of N processes on this machine; default: the one "
        "that RAY_ADDRESS names",
    )  # fmt: skip
    _add_table_options(predict)
    predict.set_defaults(command=_predict)

    audit = commands.add_parser(
        "audit",
        parents=[runs, device],
        help="examine a file of items",
        description="Examine a table (CSV, JSON, Parquet, Arrow): schema, sample, repeats, "
        "label errors, coverage, drift. With --import nothing is examined: decisions of a "
        "reviewed table go into the file.",
    )
    audit.add_argument("--data", required=True, type=Path, help="the file")
    audit.add_argument("--run", help="a run whose columns and tags are those of the file")
    _add_table_options(audit, labelled=True)
    audit.add_argument(
        "--against", type=Path, action="append", default=[], metavar="FILE",
        help="another file that must share no row with it; may be given again",
    )  # fmt: skip
    audit.add_argument("--split-column", help="a column that names the part of a row (train, test)")
    meaning = audit.add_mutually_exclusive_group()
    meaning.add_argument("--model", default="minilm", help="whose encoder; default: %(default)s")
    meaning.add_argument("--no-embeddings", action="store_true", help="go by words alone: faster")
    audit.add_argument("--out", type=Path, help="a folder; default: audits/NAME-OF-THE-FILE")
    audit.add_argument(
        "--fail-on", action="append", default=[], metavar="CONDITION",
        help="end with exit code 1 if it does not hold, such as conflicts or 'label-errors>0.05'; "
        "may be given again",
    )  # fmt: skip
    audit.add_argument("--export", type=Path, help="write the rows in doubt as a table to fill in")
    audit.add_argument("--import", dest="review", type=Path, help="such a table, filled in")
    audit.add_argument("--by", default="", help="--import: who decided")
    audit.set_defaults(command=_audit)

    decide = commands.add_parser(
        "decide",
        parents=[run, runs],
        help="change when a run publishes a tag",
        description="Fit another decision to the rows that a run kept for it, without training, "
        "and write it into the run. What is not given stays as it was.",
    )
    decide.add_argument("--policy", choices=["argmax", "threshold", "conformal"])
    decide.add_argument(
        "--target-precision", type=float, help="threshold: promised of what is published"
    )
    decide.add_argument("--confidence", type=float, help="threshold: how sure the promise is")
    decide.add_argument(
        "--scope", choices=["overall", "per_tag", "per_source"],
        help="threshold: of what",
    )  # fmt: skip
    decide.add_argument("--alpha", type=float, help="conformal: share that sets may miss")
    decide.add_argument(
        "--calibration", choices=["none", "temperature", "vector", "isotonic"],
        help="how probabilities are corrected",
    )  # fmt: skip
    decide.set_defaults(command=_decide)

    export = commands.add_parser(
        "export",
        parents=[run, runs],
        help="make a smaller and faster run of a run",
        description="Write a run's model as a graph that answers without torch into a new run "
        "folder, and fit the decision again. What changes more than the limits of compress allow "
        "is refused, with exit code 3.",
    )
    export.add_argument("--name", help="of the new run; default: RUN-CHOICE")
    export.add_argument("--rows", help="a file of further texts to compare decisions on")
    export.add_argument("--no-gate", action="store_true", help="write it whatever it changes")
    export.add_argument("--replace", action="store_true", help="take an earlier export's place")
    export.add_argument(
        "overrides", nargs="*", metavar="compress=CHOICE | compress.KEY=VALUE",
        help="how, and what may change; choices: the files of configs/compress; default: int8",
    )  # fmt: skip
    export.set_defaults(command=_export)

    errors = commands.add_parser(
        "errors",
        parents=[run, runs],
        help="read what an evaluated run gets wrong",
        description="Show the errors of a run's last evaluation: grouped, the surest first, each "
        "with the nearest training items, and a mark where the label itself looks wrong.",
    )
    errors.add_argument(
        "--on", metavar="SOURCE|FOLDER",
        help="the evaluation on this source (data=...), or the one whose report is there (out=...)",
    )  # fmt: skip
    errors.add_argument(
        "--label-errors", action="store_true", help="only where the label looks wrong"
    )
    errors.set_defaults(command=_errors)

    doctor = commands.add_parser(
        "doctor",
        parents=[runs],
        help="examine this installation, for an issue or for yourself",
        description="Show versions, machine, threads, caches, encoders and parts, and time a "
        "prediction. What is printed can be pasted into an issue: it holds no secrets. The exit "
        "code is 2 where something needed is not there.",
    )
    doctor.add_argument("--run", help="let this run predict, in place of the default encoder")
    doctor.add_argument("--json", action="store_true", help="print a JSON object")
    doctor.set_defaults(command=_doctor)

    leaderboard = commands.add_parser(
        "leaderboard",
        parents=[runs],
        help="list the runs, best first",
        description="List the runs, best first; or say what two of them were asked differently.",
    )
    leaderboard.add_argument(
        "--where", type=_setting, action="append", default=[], metavar="KEY=VALUE",
        help="only runs whose config says so, such as model.name='student*'; may be given again",
    )  # fmt: skip
    leaderboard.add_argument("--diff", nargs=2, metavar="RUN", help="the settings that differ")
    leaderboard.add_argument("--json", action="store_true", help="for programs")
    leaderboard.set_defaults(command=_leaderboard)

    compare = commands.add_parser(
        "compare",
        help="train approaches on a file, and compare them",
        description="Train every approach on the same folds of a labelled file, and say which is "
        "better; with a second --data: train on each file and on both, and score on each. Dozens "
        "of models are trained; a comparison that was stopped goes on where it was.",
    )
    compare.add_argument(
        "--data", required=True, type=Path, action="append", metavar="FILE", help="a labelled file"
    )
    _add_table_options(compare, labelled=True)
    compare.add_argument(
        "--approach", action="append", default=[], metavar="NAME[=OVERRIDES]",
        help="an approach to compare, or a new one with its overrides of train.py; may be given "
        "again; default: all",
    )  # fmt: skip
    compare.add_argument(
        "--few-labels", action="store_true", help="train on 8, 16, 32 and 64 labels of each tag"
    )
    compare.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    compare.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    compare.add_argument(
        "--out", type=Path, default=Path("comparisons"), help="a folder; default: %(default)s"
    )
    compare.set_defaults(command=_compare)

    build = commands.add_parser(
        "build",
        parents=[runs],
        help="make the best run for this machine from a labelled file",
        description="From a labelled file to one run that publishes by a promise: train words, "
        "encoders and a student of both, compress it, fit the decision, choose, evaluate. Each "
        "step is a run folder below RUNS_DIR/NAME.build. A command that was stopped goes on where "
        "it was when it is given again.",
    )
    build.add_argument(
        "--data", required=True, type=Path, action="append", metavar="FILE",
        help="a labelled file; may be given again",
    )  # fmt: skip
    _add_table_options(build, labelled=True)
    build.add_argument(
        "--transfer", action="append", default=[], metavar="FILE",
        help="a file of further text, labelled or not, that the student learns from; again",
    )  # fmt: skip
    build.add_argument(
        "--promise", type=float, default=0.98, help="precision of what is published; default: 0.98"
    )
    build.add_argument(
        "--confidence", type=float, default=0.95, help="how sure that is; default: 0.95"
    )
    build.add_argument(
        "--budget", type=_minutes, default=15.0, metavar="TIME",
        help="how long it may take, such as 90s, 15min or 2h; default: 15min",
    )  # fmt: skip
    build.add_argument("--name", help="of the run; default: the file's")
    build.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    build.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE",
        help="build=CHOICE, a file of configs/build; or overrides of train.py for all models, such "
        "as data.extra=[FILE]",
    )  # fmt: skip
    build.set_defaults(command=_build)

    bench = commands.add_parser(
        "benchmark",
        parents=[runs],
        help="measure what runs cost to use, side by side",
        description="Measure runs from title and description to the decision: one item at a time, "
        "many a call, texts of several lengths, cold start, memory and size. The others are "
        "compared with the first. Leave the machine alone meanwhile.",
    )
    bench.add_argument(
        "--run", required=True, action="append", metavar="RUN",
        help="a run folder, a name below --runs-dir, or hf:ORG/NAME; may be given again",
    )  # fmt: skip
    bench.add_argument(
        "--data", type=Path, metavar="FILE",
        help="a file of items, labelled or not; default: the source of the first run",
    )  # fmt: skip
    bench.add_argument(
        "--threads", type=_whole_numbers, metavar="N,N",
        help="numbers of cores to give them; default: 1,2 where there are two",
    )  # fmt: skip
    bench.add_argument(
        "--rounds", type=int, default=40,
        help="blocks of 50 items that each run answers; default: %(default)s",
    )  # fmt: skip
    bench.add_argument(
        "--out", type=Path, metavar="FILE.json", help="keep the figures, and their tables as .md"
    )
    bench.set_defaults(command=_benchmark)

    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("--license", metavar="ID", help="of the model, such as mit; no run knows it")
    known.add_argument("--language", metavar="CODE", help="of its texts, such as en; likewise")
    card = commands.add_parser(
        "card",
        parents=[run, runs, known],
        help="write a run's model card",
        description="Write what the run's own files say of it, as the hub's README.md: metadata, "
        "figures with intervals, data, limits, machine, use.",
    )
    card.add_argument("--out", type=Path, metavar="FILE", help="default: README.md of the run")
    card.set_defaults(command=_card)

    push = commands.add_parser(
        "push",
        parents=[run, runs, known],
        help="publish a run on the Hugging Face hub",
        description="Upload a run's model, card and files to a repository of its own: what else "
        "is there is removed. Of items they quote the 50 of parity_samples.json. Every command "
        "takes it back: --run hf:ORG/NAME@REVISION",
    )
    push.add_argument("repository", metavar="ORG/NAME", help="made if need be")
    push.add_argument("--private", action="store_true", help="make it for its owners alone")
    push.add_argument("--yes", action="store_true", help="do not ask first")
    push.set_defaults(command=_push)

    monitor = commands.add_parser(
        "monitor",
        parents=[runs],
        help="watch a stream for drift and for broken promises",
        description="Watch the rows of a file, or what a service keeps, in the order that they "
        "came, by a run: what changes, and whether what is published is as right as promised, with "
        "a bound on false alarms ever. Given again it goes on with what was added. While an alarm "
        "stands the exit code is 4; `tagger monitor accept --out FOLDER` accepts it and begins "
        "anew.",
    )
    monitor.add_argument("action", nargs="?", choices=["accept"], help="accept what stands")
    monitor.add_argument("--run", help="a run folder, or a name below --runs-dir")
    monitor.add_argument("--input", type=Path, metavar="FILE", help="a table of items")
    _add_store_options(monitor)
    monitor.add_argument(
        "--hold", action="store_true",
        help="--store: stop publishing for an alarm that the promise is broken; `tagger hold off` "
        "resumes it",
    )  # fmt: skip
    monitor.add_argument(
        "--labels", type=Path, metavar="FILE",
        help="items with their tags, drawn at random and labelled blind, of which those count "
        "that the run publishes; a column "
        "`inclusion_probability` says with what probability",
    )  # fmt: skip
    monitor.add_argument(
        "--history", action="store_true",
        help="--input: what comes is past; each alarm is accepted at once, and the watch goes on "
        "behind it",
    )  # fmt: skip
    monitor.add_argument("--promise", type=_probability, help="default: the run's, if it has one")
    monitor.add_argument(
        "--alpha", type=_probability, help="chance of a false alarm ever; default: 0.05"
    )
    monitor.add_argument("--out", type=Path, help="a folder; default: monitors/NAME-OF-THE-FILE")
    _add_table_options(monitor)
    monitor.set_defaults(command=_monitor)
    _add_service_commands(commands, [run, runs])
    return parser


def _add_store_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="the service's settings, yaml")
    parser.add_argument(
        "--store", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


def _add_service_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    runs: Sequence[argparse.ArgumentParser],
) -> None:
    settings = argparse.ArgumentParser(add_help=False)
    _add_store_options(settings)
    serve = commands.add_parser(
        "serve",
        parents=[*runs, settings],
        help="answer a platform over HTTP",
        description="Serve a finished run: classify, keep and publish items, screen duplicates, "
        "give people what is in doubt. Settings given here go before those of the file.",
    )
    serve.add_argument("--host", help="address that is listened on; default: 127.0.0.1")
    serve.add_argument("--port", type=int, help="default: 8080")
    serve.add_argument("--workers", type=int, default=1, help="1: a service is one process")
    serve.set_defaults(command=_serve)

    submit = commands.add_parser(
        "submit",
        help="send a file or a feed of items to a service",
        description="Send items to a service: a table (CSV, JSON, Parquet, Arrow), a feed (RSS, "
        "Atom), or what Reddit or Hacker News answered. What was sent before is not stored again, "
        "so a command that was stopped is given again. A column suggested_tag is shown to those "
        "who review.",
    )
    submit.add_argument("--input", required=True, metavar="FILE", help="- is standard input")
    submit.add_argument(
        "--url", default="http://127.0.0.1:8080", help="of the service; default: %(default)s"
    )
    submit.add_argument(
        "--key-env", metavar="NAME",
        help="environment variable with the key; default: TAGGER_KEY, if it is there",
    )  # fmt: skip
    submit.add_argument("--source", default="", metavar="NAME", help="goes before ids: NAME:ID")
    submit.add_argument("--rate", type=float, metavar="N", help="most items a second")
    submit.add_argument(
        "--failed", type=Path, metavar="FILE.jsonl",
        help="items that are not taken go there, with the reason; default: INPUT.failed.jsonl",
    )  # fmt: skip
    _add_table_options(submit)
    submit.set_defaults(command=_submit)

    store = commands.add_parser("store", help="upgrade, back up, verify or rebuild a store")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    for action, text in {
        "upgrade": "bring it to this version of tagger, after a backup, or make it",
        "backup": "copy it, in use or not, to a file that is a store itself",
        "verify": "examine it",
        "rebuild": "make its indexes anew from what happened",
    }.items():
        one = actions.add_parser(action, parents=[settings], help=text, description=text)
        if action == "backup":
            one.add_argument("--out", type=Path, required=True, metavar="FILE")
        one.set_defaults(command=_store, action=action)

    hold = commands.add_parser(
        "hold",
        parents=[settings],
        help="stop and resume publishing",
        description="Say whether a service publishes, or let it stop (on) or resume (off), while "
        "it runs or not. On hold, people decide on every item that comes in.",
    )
    hold.add_argument("state", nargs="?", choices=["on", "off"], help="default: only say it")
    hold.add_argument("--reason", help="on: why; people are shown it")
    hold.set_defaults(command=_hold)

    rollout = commands.add_parser(
        "rollout",
        help="let a new run take an old one's place by stages",
        description="Let a new run answer beside the one that is served, then in its place, by "
        "stages that are left when the evidence says so; a run that does harm is rolled back. A "
        "service that runs follows.",
    )
    actions = rollout.add_subparsers(required=True, metavar="ACTION")
    start = actions.add_parser(
        "start",
        parents=[*runs[1:], settings],
        help="begin, unseen",
        description="Start the rollout of a run that passed evaluate.py against=OLD.",
    )
    start.add_argument("new", metavar="NEW", help="a run folder, or a name below --runs-dir")
    start.add_argument("--against", required=True, metavar="OLD", help="the run that is served")
    start.add_argument(
        "--plan", default="careful", metavar="PLAN",
        help="careful, shadow-only, ab, or a yaml file; default: %(default)s",
    )  # fmt: skip
    start.set_defaults(command=_rollout, action="start")
    for action, text in {
        "status": "say how it stands, and what is waited for",
        "pause": "stay at this stage; harm is rolled back still",
        "resume": "go on",
        "promote": "let the new run decide on everything, whatever the evidence",
        "abort": "let the old run decide on everything again, after a promotion too",
        "items": "list what a run published that was rolled back, and what the old one says",
        "redecide": "give these items the old run's decision",
    }.items():
        one = actions.add_parser(action, parents=[settings], help=text, description=text)
        if action in ("pause", "promote", "abort"):
            one.add_argument("--reason", required=True, help="why; it is kept")
        one.set_defaults(command=_rollout, action=action)

    data = commands.add_parser("data", help="get people's labels out of a store")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    pull = actions.add_parser(
        "pull",
        parents=[settings],
        help="write them as a table to train on",
        description="Write the labels that people gave as a table that `tagger audit` and "
        "`train.py data=file` take as it is. Rows of the random sample, and labels that differ, go "
        "to tables beside it.",
    )
    pull.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as labels.csv")
    pull.add_argument(
        "--sample-for-training", action="store_true",
        help="put rows of the random sample into the table too: it can't be evaluated on then",
    )  # fmt: skip
    pull.set_defaults(command=_pull)

    keys = commands.add_parser("keys", help="make, list or revoke the keys of a service's clients")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", parents=[settings], help="make one; it is shown once")
    create.add_argument("--name", required=True, help="whose it is")
    create.add_argument("--role", required=True, choices=["submit", "review", "read", "admin"])
    create.add_argument("--days", type=float, help="after which it expires; default: never")
    create.set_defaults(command=_keys, action="create")
    listed = actions.add_parser("list", parents=[settings], help="all, without their secrets")
    listed.set_defaults(command=_keys, action="list")
    revoke = actions.add_parser("revoke", parents=[settings], help="end one")
    revoke.add_argument("id", help="of the key, as `list` shows it")
    revoke.set_defaults(command=_keys, action="revoke")


def _add_table_options(
    parser: argparse.ArgumentParser, *, labelled: bool = False, tags: bool = True
) -> None:
    """Let a command be told how to read a table that isn't written as ours are."""
    parser.add_argument(
        "--columns", type=_columns, default={}, metavar="'{FIELD: COLUMN}'",
        help="which column holds what, of id, title, description (or text), tag, created_on, such "
        "as '{text: body, tag: label}'; default: the columns of these names",
    )  # fmt: skip
    parser.add_argument("--delimiter", help="of a CSV file's columns; default: it is found")
    if labelled:
        parser.add_argument(
            "--dates", choices=["iso", "day-first", "month-first"], default="iso",
            help="what comes first in dates like 03/02/2020; default: such dates are refused",
        )  # fmt: skip
    if labelled and tags:
        parser.add_argument(
            "--tags", type=Path, metavar="FILE", help="the list of tags; default: the file's own"
        )


def _columns(text: str) -> dict[str, str]:
    import yaml

    from tagger.config.schema import wrong_columns

    try:
        # As text all of them: yaml takes a column called `no` for false.
        columns = yaml.load(text, yaml.BaseLoader)
        if not isinstance(columns, dict):
            columns = yaml.load(f"{{{text}}}", yaml.BaseLoader)
    except yaml.YAMLError:
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(v, str) for v in columns.values()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected such as '{{text: body, tag: label}}'")
    if problem := wrong_columns(columns):
        raise argparse.ArgumentTypeError(problem)
    return columns


def _table_format(
    options: argparse.Namespace, known: Mapping[str, str] | None = None
) -> "TableFormat":
    from tagger.data.columns import TableFormat

    if options.delimiter is not None and len(options.delimiter) != 1:
        raise UserError(f"--delimiter {options.delimiter!r}: expected one character")
    dates: DateOrder = getattr(options, "dates", "iso")
    return TableFormat(options.columns, known or {}, options.delimiter, dates, "options")


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected such as model.name=minilm")
    return key, value


def _minutes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time like 90s, 15min or 2h")
    return float(match[1]) * {"s": 1 / 60, "min": 1.0, "h": 60.0}[match[2]]


def _probability(text: str) -> float:
    if re.fullmatch(r"0?\.\d*[1-9]\d*", text.strip()) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number between 0 and 1")
    return float(text)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers like 1,2") from None


def _init(options: argparse.Namespace) -> None:
    from tagger.data.initialize import describe, initialize

    made = initialize(options.file, options.name, _table_format(options), replacing=options.replace)
    print(describe(made, options.file))


def _predict(options: argparse.Namespace) -> None:
    texts = {name: getattr(options, name) for name in ("text", "title", "description")}
    one = any(text is not None for text in texts.values())
    many = options.input is not None or options.output is not None
    if one == many:
        raise UserError(
            "give either --text, or --title and/or --description, or --input and --output",
            hint="See: tagger predict --help",
        )
    if many and (options.input is None or options.output is None):
        raise UserError("--input and --output go together: give both")
    if options.engine is not None and (one or options.strict):
        raise UserError("--engine goes with --input and --output, and not with --strict")
    if options.engine is not None and options.device not in ("auto", "cpu"):
        raise UserError(f"--engine computes on CPUs: leave out --device {options.device}")
    if options.workers is not None and (options.engine != "ray" or options.workers < 1):
        raise UserError("--workers is a number of at least 1, and goes with --engine ray")
    if options.text is not None and options.description is not None:
        raise UserError("--text and --description are the same: give one")
    # Imported by the command that needs it: torch alone takes seconds.
    from tagger.runs import open_run

    run = open_run(options.run, options.runs_dir)
    if options.engine is not None:
        _predict_batch(run, options)
        return
    if many:
        from tagger.data.readers import PIPE
        from tagger.prediction import predict_file

        outcome = predict_file(
            run, options.input, options.output, _table_format(options, run.columns),
            strict=options.strict, keep_columns=options.keep_columns, device=options.device,
        )  # fmt: skip
        # What was predicted may itself go to standard output.
        told = sys.stderr if options.output == PIPE else sys.stdout
        print(f"{outcome.rows:,} items: {options.output}", file=told)
        if outcome.skipped:
            print(f"blank rows that were skipped: {outcome.skipped:,}", file=told)
        if outcome.unanswered:
            print(
                f"{outcome.unanswered:,} of them could not be answered and need review: the column "
                "`reason` says why (--strict refuses such a file)",
                file=told,
            )
        return

    from tagger.data.items import Item

    text = options.text or options.description or ""
    item = Item("1", (options.title or "").strip(), text.strip())
    if not item.text:
        raise UserError("the item has no text: there is nothing to tag")
    try:
        item.text.encode()
    except UnicodeEncodeError:
        raise UserError("the title or description is not UTF-8 text") from None
    from tagger.decision.decider import load_decider
    from tagger.decision.policies import NEEDS_REVIEW, REVIEW

    decisions = load_decider(run.path, run.load_classifier(options.device)).decide([item])
    decided = int(decisions.tags[0])
    print(NEEDS_REVIEW if decided == REVIEW else run.tags[decided])
    ranked = sorted(zip(run.tags, decisions.probabilities[0], strict=True), key=lambda p: -p[1])
    width = max(len(tag) for tag in run.tags)
    for tag, probability in ranked:
        print(f"  {tag:<{width}}  {probability:.4f}")


def _predict_batch(run: "RunFolder", options: argparse.Namespace) -> None:
    from tagger.batch.run_batch import predict_batch

    made = predict_batch(
        run, options.input, options.output, _table_format(options, run.columns),
        engine=options.engine, workers=options.workers, keep_columns=options.keep_columns,
    )  # fmt: skip
    print(f"{made.rows:,} items in {len(made.units):,} files: {options.output}")
    if made.unanswered:
        print(f"{made.unanswered:,} of them could not be answered: see unanswered.csv there")


def _decide(options: argparse.Namespace) -> None:
    from tagger.config.schema import DecisionConfig
    from tagger.decision.change import change_decision
    from tagger.runs import open_run

    run = open_run(options.run, options.runs_dir)
    given = {
        name: value
        for name in DecisionConfig.model_fields
        if (value := getattr(options, name, None)) is not None
    }
    print(change_decision(run, given))


def _export(options: argparse.Namespace) -> None:
    from tagger.config.composition import compose_config, load_config
    from tagger.config.overrides import quoted
    from tagger.config.schema import ExportConfig

    given = [f"gate={not options.no_gate}", f"replace={options.replace}"]
    texts = {"run": options.run, "runs_dir": options.runs_dir}
    texts |= {"name": options.name, "rows": options.rows}
    given += [f"{key}={quoted(value)}" for key, value in texts.items() if value is not None]
    config = load_config(ExportConfig, compose_config("export", [*given, *options.overrides]))
    from tagger.compression.parity import ParityFailed
    from tagger.compression.run_export import export_run
    from tagger.config.overrides import script_command
    from tagger.evaluation.guards import REGRESSED
    from tagger.reporting.markdown import write_markdown
    from tagger.reporting.parity import parity_page
    from tagger.reporting.terminal import print_page

    try:
        made = export_run(config)
    except ParityFailed as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(REGRESSED)
    page = parity_page(made.parity, made.title)
    write_markdown(page, made.folder / "parity.md")
    print_page(page)
    print(f"{made.folder}\nnext: {script_command('evaluate.py', run=made.folder)}")


def _errors(options: argparse.Namespace) -> None:
    from tagger.reporting.errors import print_errors, read_errors
    from tagger.runs import open_run

    run = open_run(options.run, options.runs_dir)
    print_errors(read_errors(run, options.on), suspected_only=options.label_errors)


def _audit(options: argparse.Namespace) -> None:
    from tagger.audit.gate import failed_conditions, parse_conditions
    from tagger.audit.review import export_review, import_review
    from tagger.data.tags import load_tags
    from tagger.files import resolve_path
    from tagger.runs import open_run

    conditions = parse_conditions(options.fail_on)
    run = None if options.run is None else open_run(options.run, options.runs_dir)
    how = _table_format(options, None if run is None else run.columns)
    tags = None if run is None else run.tags
    if options.tags is not None:
        tags = tuple(tag.name for tag in load_tags(resolve_path(options.tags)))
    if options.review is not None:
        decisions = import_review(options.data, options.review, tags=tags, how=how, by=options.by)
        print(f"{len(decisions)} decisions carried out: {options.data}")
        return
    if options.export is not None and options.export.exists():
        raise UserError(
            f"{options.export} exists already, and may hold decisions",
            hint="Import it (--import), or choose another name.",
        )
    from tagger.audit.run_audit import audit_file
    from tagger.reporting.audit import audit_page
    from tagger.reporting.html import write_html
    from tagger.reporting.terminal import print_page

    audit = audit_file(
        options.data,
        tags=tags,
        how=how,
        against=options.against,
        split_column=options.split_column,
        model=None if options.no_embeddings else options.model,
        device=options.device,
    )
    folder = options.out or Path("audits") / options.data.stem
    page = audit_page(audit)
    audit.write(folder / "audit.json")
    write_html(page, folder / "audit.html")
    print_page(page)
    print(f"{folder / 'audit.html'}\n{folder / 'audit.json'}")
    if options.export is not None:
        print(f"{export_review(audit, options.export)} rows to decide on: {options.export}")
    failures = failed_conditions(audit, conditions)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if failures:
        sys.exit(GATE_FAILED)


def _doctor(options: argparse.Namespace) -> None:
    from tagger.doctor import diagnose

    diagnosis = diagnose(options.run, options.runs_dir)
    if options.json:
        print(diagnosis.model_dump_json(indent=2))
    else:
        from tagger.reporting.doctor import describe

        print(describe(diagnosis))
    if diagnosis.problems:
        raise UserError(
            "something that is needed is not there:",
            [f"{one.what}: {one.mend}" for one in diagnosis.problems],
        )


def _leaderboard(options: argparse.Namespace) -> None:
    from tagger.reporting.leaderboard import print_difference, print_leaderboard

    if options.diff is not None:
        print_difference(options.diff, options.runs_dir, as_json=options.json)
    else:
        print_leaderboard(options.runs_dir, dict(options.where), as_json=options.json)


def _compare(options: argparse.Namespace) -> None:
    if len(options.data) > 2 or (options.few_labels and len(options.data) == 2):
        raise UserError("give one --data, or two of them without --few-labels")
    if options.seeds < 1 or options.folds < 2:
        raise UserError(f"--seeds {options.seeds} --folds {options.folds}: at least 1 and 2")
    from tagger.compare import comparison
    from tagger.compare.approaches import choose_approaches
    from tagger.compare.report import ComparisonReport
    from tagger.compare.runs import LabelledFile
    from tagger.data.tags import list_tags
    from tagger.reporting.compare import comparison_page
    from tagger.reporting.markdown import write_markdown
    from tagger.reporting.terminal import print_page

    approaches = choose_approaches(options.approach)
    how = _table_format(options)
    sources = [LabelledFile.load(path, options.tags, how) for path in options.data]
    for source in sources:
        for note in source.notes:
            print(f"note: {note}", file=sys.stderr)
    if len({tuple(source.tags) for source in sources}) > 1:
        told = [f"{source.path}: {list_tags(source.tags)}" for source in sources]
        raise UserError("the files have different tags:", told, "Give the list of all: --tags FILE")
    first, folder = sources[0], options.out / sources[0].name
    seeds, folds = options.seeds, options.folds
    report: ComparisonReport
    if options.few_labels:
        kind = "few-labels"
        report = comparison.compare_few_labels(approaches, first, folder, folds=folds)
    elif len(sources) == 2:
        kind, folder = "sources", options.out
        report = comparison.compare_sources(approaches, sources, folder, seeds=seeds, folds=folds)
    else:
        kind = "approaches"
        report = comparison.compare_approaches(approaches, first, folder, seeds=seeds, folds=folds)
    page = comparison_page(report)
    report.write(folder / f"{kind}.json")
    write_markdown(page, folder / f"{kind}.md")
    print_page(page)
    print(folder / f"{kind}.md")


def _build(options: argparse.Namespace) -> None:
    from tagger.build.run_build import build, build_config
    from tagger.compare.runs import LabelledFile
    from tagger.reporting.build import build_page
    from tagger.reporting.html import write_html
    from tagger.reporting.terminal import print_page

    first, *further = options.data
    source = LabelledFile.load(first, options.tags, _table_format(options), further)
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    config = build_config(
        source,
        transfer=options.transfer,
        tags=options.tags,
        promise=options.promise,
        confidence=options.confidence,
        budget_minutes=options.budget,
        name=options.name,
        runs_dir=options.runs_dir,
        seed=options.seed,
        overrides=options.overrides,
    )
    try:
        made = build(config, source, say=lambda text: print(text, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise
    page = build_page(made.report)
    write_html(page, made.steps / "build.html")
    print_page(page)
    for path in (made.run / "report.html", made.steps / "build.html", made.run):
        if path.exists():
            print(path)


def _benchmark(options: argparse.Namespace) -> None:
    out = options.out
    if out is not None and (out.suffix != ".json" or out.is_dir()):
        raise UserError(f"--out {out}: expected a file whose name ends in .json")
    from tagger.benchmark.run_benchmark import benchmark, choose_texts
    from tagger.reporting.benchmark import benchmark_page
    from tagger.reporting.markdown import write_markdown
    from tagger.reporting.terminal import print_page
    from tagger.runs import open_run
    from tagger.threads import available_cores

    runs = [open_run(name, options.runs_dir) for name in options.run]
    report = benchmark(
        runs,
        choose_texts(runs[0], options.data),
        threads=options.threads or [n for n in (1, 2) if n <= available_cores()],
        rounds=options.rounds,
    )
    page = benchmark_page(report)
    print_page(page)
    if out is not None:
        tables = out.with_suffix(".md")
        report.write(out)
        write_markdown(page, tables)
        print(f"{out}\n{tables}")


def _said(options: argparse.Namespace) -> dict[str, str]:
    given = {name: getattr(options, name) for name in ("license", "language")}
    return {name: value for name, value in given.items() if value is not None}


def _card(options: argparse.Namespace) -> None:
    from tagger.files import write_text
    from tagger.hub import CARD
    from tagger.reporting.card import write_card
    from tagger.runs import open_run

    run = open_run(options.run, options.runs_dir)
    out = options.out or run.path / CARD
    write_text(out, write_card(run, more=_said(options)))
    print(out)


def _push(options: argparse.Namespace) -> None:
    from tagger.hub import CARD, check_repository, files_to_push, push_run
    from tagger.reporting.card import write_card
    from tagger.runs import open_run

    check_repository(options.repository)
    run = open_run(options.run, options.runs_dir)
    files = files_to_push(run)
    card = write_card(run, repository=options.repository, more=_said(options))
    mib = sum(path.stat().st_size for path in files.values()) / 2**20
    print(f"{options.repository}: {len(files) + 1} files, {mib:,.1f} MiB")
    print("\n".join(f"  {name}" for name in (CARD, *files)))
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked", hint="To upload it, add --yes.")
        if input("upload these? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UserError("nothing was uploaded")
    print(push_run(options.repository, files, card, private=options.private))


def _monitor(options: argparse.Namespace) -> None:
    out, source = options.out, options.input
    of_store = options.store is not None or options.config is not None
    if options.action != "accept" and (options.run is None or of_store == (source is not None)):
        raise UserError(
            "give --run, and either --input or --store", hint="See: tagger monitor --help"
        )
    of_file = options.labels is not None or options.history
    if (of_store and of_file) or (options.hold and not of_store):
        raise UserError("--labels and --history go with --input, and --hold with --store")
    if out is None and (of_store or source is not None):
        out = Path("monitors") / ("store" if of_store else source.stem)
    if out is None:
        raise UserError("give the folder of the watch: --out FOLDER")
    from tagger.monitoring.watch_file import watch_file
    from tagger.monitoring.watching import REPORT_FILE, accept_alarms
    from tagger.reporting.html import write_html
    from tagger.reporting.monitor import monitor_page
    from tagger.reporting.terminal import print_page
    from tagger.runs import open_run

    if options.action == "accept":
        report = accept_alarms(out)
    elif of_store:
        config = _settings(options)
        from tagger.service.watch_store import watch_store

        report = watch_store(
            open_run(options.run, options.runs_dir), config, out,
            promise=options.promise, alpha=options.alpha, hold=options.hold,
        )  # fmt: skip
    else:
        run = open_run(options.run, options.runs_dir)
        report = watch_file(
            run, source, out, _table_format(options, run.columns),
            labels=options.labels, promise=options.promise, alpha=options.alpha,
            history=options.history,
        )  # fmt: skip
    page = monitor_page(report, out)
    write_html(page, out / "monitor.html")
    print_page(page)
    print(f"{out / 'monitor.html'}\n{out / REPORT_FILE}")
    if report.standing:
        sys.exit(ALARM_STANDS)


def _settings(options: argparse.Namespace) -> "ServiceConfig":
    try:
        from tagger.service.settings import load_settings
    except ModuleNotFoundError as error:
        raise _lacking(error) from None

    given = {name: getattr(options, name, None) for name in ("store", "host", "port")}
    return load_settings(options.config, {k: v for k, v in given.items() if v is not None})


def _lacking(error: ModuleNotFoundError) -> UserError:
    return UserError(
        f"the service needs {error.name}, which is not installed",
        hint="pip install -r requirements-service.txt -c constraints.txt",
    )


def _serve(options: argparse.Namespace) -> None:
    if options.workers != 1:
        raise UserError(
            f"--workers {options.workers}: a service is one process, in which one thread computes "
            "and one writes; a second would load the model again and wait for the same store",
            hint="Leave it out; for more throughput, serve a smaller run: tagger export",
        )
    from tagger.runs import open_run

    config = _settings(options)
    run = open_run(options.run, options.runs_dir)
    try:
        from tagger.service.server import serve
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    serve(run, config)


def _submit(options: argparse.Namespace) -> None:
    if options.rate is not None and not options.rate > 0:
        raise UserError(f"--rate {options.rate:g}: expected more than 0 items a second")
    key = os.environ.get(options.key_env or "TAGGER_KEY", "").strip()
    if options.key_env and not key:
        raise UserError(f"--key-env {options.key_env}: there is no such environment variable")
    if not key.isascii() or not key.isprintable():
        raise UserError("the key is none: `tagger keys create` shows one, such as tg_…")
    from tagger.decision.policies import NEEDS_REVIEW

    try:
        from tagger.submission import submit_file
    except ModuleNotFoundError as error:
        raise _lacking(error) from None

    outcome = submit_file(
        options.input, options.url, key=key, name=options.source, rate=options.rate,
        failed=options.failed, how=_table_format(options),
    )  # fmt: skip
    failures = outcome.decisions.pop("", 0)
    asked, same = (outcome.decisions.pop(one, 0) for one in (NEEDS_REVIEW, "duplicate"))
    published = outcome.decisions.total()
    print(
        f"{published + asked + same:,} items: {published:,} published, {asked:,} for people, "
        f"{same:,} there already"
    )
    if failures:
        print(f"{failures:,} items were not taken: {outcome.failed}", file=sys.stderr)
        sys.exit(NOT_TAKEN)


def _store(options: argparse.Namespace) -> None:
    config = _settings(options)
    from tagger.service.maintenance import backup_store, rebuild_store, upgrade_store, verify_store

    match options.action:
        case "upgrade":
            upgrade_store(config.store, print)
        case "backup":
            print(f"{backup_store(config.store, options.out):,} rows: {options.out}")
        case "verify":
            print(verify_store(config.store))
        case "rebuild":
            print(f"indexes made anew from {rebuild_store(config.store):,} events")


def _hold(options: argparse.Namespace) -> None:
    if (options.state == "on") != bool(options.reason):
        raise UserError("say why publishing stops, and nothing else: hold on --reason 'too sure'")
    config = _settings(options)
    from contextlib import closing

    from tagger.service import hold
    from tagger.service.database import open_store
    from tagger.service.keys import now_ms, shown_time

    at = now_ms()
    with closing(open_store(config.store)) as store:
        if options.state is not None:
            with store.writing() as connection:
                if options.state == "on":
                    hold.set_hold(connection, options.reason, actor="command", at=at)
                else:
                    hold.lift_hold(connection, actor="command", at=at)
        with store.reading() as connection:
            on = hold.current_hold(connection)
    print("publishing" if on is None else f"on hold since {shown_time(on.since)}: {on.reason}")


def _rollout(options: argparse.Namespace) -> None:
    config = _settings(options)
    from contextlib import closing

    from tagger.rollout.plan import load_plan
    from tagger.runs import open_run
    from tagger.service import rollout_commands as commands
    from tagger.service.database import open_store

    with closing(open_store(config.store)) as store:
        if options.action == "start":
            new, old = (open_run(one, options.runs_dir) for one in (options.new, options.against))
            print(commands.start(store, new, old, load_plan(options.plan)))
        elif options.action in ("status", "items", "redecide"):
            print(getattr(commands, options.action)(store))
        else:
            print(commands.decide_by_hand(store, options.action, getattr(options, "reason", "")))


def _pull(options: argparse.Namespace) -> None:
    config = _settings(options)
    from contextlib import closing

    from tagger.service.database import open_store
    from tagger.service.labels import pull_labels

    with closing(open_store(config.store)) as store, store.reading() as connection:
        for line in pull_labels(
            connection, options.out, sample_for_training=options.sample_for_training
        ):
            print(line)


def _keys(options: argparse.Namespace) -> None:
    config = _settings(options)
    from contextlib import closing

    from tagger.service import keys
    from tagger.service.database import open_store

    create = options.action == "create"
    with closing(open_store(config.store, create=create)) as store:
        if options.action == "list":
            with store.reading() as connection:
                print("\n".join(keys.describe_keys(connection)))
            return
        with store.writing() as connection:
            if not create:
                keys.revoke_key(connection, options.id)
                print(f"revoked: {options.id}")
                return
            made = keys.create_key(connection, options.name, options.role, options.days)
        print(f"{made}\nIt is not shown again: the store has only its hash.")
