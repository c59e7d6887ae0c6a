"""The `tagger` command: what one does with data and with finished runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tagger.errors import UserError, exit_on_user_error

GATE_FAILED = 1


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands below; `tagger --help` lists them."""
    options = build_parser().parse_args(arguments)
    options.command(options)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each leaves its function in `command`."""
    parser = argparse.ArgumentParser(prog="tagger", description="Audit data, use runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    predict = commands.add_parser(
        "predict",
        help="give items their tag",
        description="Give one item (--title, --description) or a file of items (--input, --output) "
        "their tags. Files are CSV, JSONL or Parquet, chosen by their endings; the input needs the "
        "columns id and title or description. A command that was stopped goes on where it was when "
        "it is given again.",
    )
    predict.add_argument("--run", required=True, help="a run folder, or a name below --runs-dir")
    predict.add_argument("--runs-dir", default="runs", help="default: %(default)s")
    predict.add_argument("--title", help="one item's title")
    predict.add_argument("--description", help="one item's description")
    predict.add_argument("--input", type=Path, help="a file of items")
    predict.add_argument("--output", type=Path, help="where their predictions go")
    predict.set_defaults(command=_predict)

    audit = commands.add_parser(
        "audit",
        help="examine a file of items",
        description="Examine a CSV, JSONL or Parquet file: schema, sample, repeats, doubtful "
        "labels, coverage, drift. Untagged files are examined for all but labels. With --import "
        "nothing is examined: decisions of a reviewed table go into the file.",
    )
    audit.add_argument("--data", required=True, type=Path, help="the file")
    audit.add_argument("--tags", default="data/tags.yaml", help="default: %(default)s")
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

    leaderboard = commands.add_parser("leaderboard", help="list the runs, best first")
    leaderboard.add_argument("--runs-dir", default="runs", help="default: %(default)s")
    leaderboard.set_defaults(command=_leaderboard)
    return parser


def _predict(options: argparse.Namespace) -> None:
    one = options.title is not None or options.description is not None
    many = options.input is not None or options.output is not None
    if one == many:
        raise UserError(
            "give either --title and/or --description, or --input and --output",
            hint="See: tagger predict --help",
        )
    if many and (options.input is None or options.output is None):
        raise UserError("--input and --output go together: give both")
    # Imported by the command that needs it: torch alone takes seconds.
    from tagger.runs import open_run

    run = open_run(options.run, options.runs_dir)
    if many:
        from tagger.prediction import predict_file

        total = predict_file(run, options.input, options.output)
        print(f"{total} items: {options.output}")
        return

    from tagger.data.items import Item

    item = Item("1", (options.title or "").strip(), (options.description or "").strip())
    if not item.text:
        raise UserError("the item has neither title nor description: there is nothing to tag")
    try:
        item.text.encode()
    except UnicodeEncodeError:
        raise UserError("the title or description is not UTF-8 text") from None
    probabilities = run.load_classifier().predict_proba([item])[0]
    ranked = sorted(zip(run.tags, probabilities, strict=True), key=lambda pair: -pair[1])
    width = max(len(tag) for tag in run.tags)
    for tag, probability in ranked:
        print(f"{tag:<{width}}  {probability:.4f}")


def _audit(options: argparse.Namespace) -> None:
    from tagger.audit.gate import failed_conditions, parse_conditions
    from tagger.audit.report import print_audit, write_audit
    from tagger.audit.review import export_review, import_review
    from tagger.files import resolve_path

    conditions = parse_conditions(options.fail_on)
    tags = resolve_path(options.tags)
    if options.review is not None:
        decisions = import_review(options.data, options.review, tags=tags, by=options.by)
        print(f"{len(decisions)} decisions carried out: {options.data}")
        return
    if options.export is not None and options.export.exists():
        raise UserError(
            f"{options.export} exists already, and may hold decisions",
            hint="Import it (--import), or choose another name.",
        )
    from tagger.audit.run_audit import audit_file

    audit = audit_file(
        options.data,
        tags=tags,
        against=options.against,
        split_column=options.split_column,
        model=None if options.no_embeddings else options.model,
    )
    folder = options.out or Path("audits") / options.data.stem
    write_audit(audit, folder)
    print_audit(audit)
    print(f"{folder / 'audit.html'}\n{folder / 'audit.json'}")
    if options.export is not None:
        print(f"{export_review(audit, options.export)} rows to decide on: {options.export}")
    failures = failed_conditions(audit, conditions)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if failures:
        sys.exit(GATE_FAILED)


def _leaderboard(options: argparse.Namespace) -> None:
    from tagger.leaderboard import print_leaderboard

    print_leaderboard(options.runs_dir)
