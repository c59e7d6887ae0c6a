"""The `tagger` command: what one does with finished runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tagger.errors import UserError, exit_on_user_error


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands below; `tagger --help` lists them."""
    options = build_parser().parse_args(arguments)
    options.command(options)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each leaves its function in `command`."""
    parser = argparse.ArgumentParser(prog="tagger", description="Use finished runs.")
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


def _leaderboard(options: argparse.Namespace) -> None:
    from tagger.leaderboard import print_leaderboard

    print_leaderboard(options.runs_dir)
