"""What each approach can do: pass rates of the behaviour cases, by capability.

    python benchmarks/behaviour.py --mwml DATASET.csv

Rules, linear, frozen and fine-tuned models are trained on the embedded set alone, and then by the
recipe that we recommend (`experiment=both`) on DATASET.csv (Made With ML's training set), the
embedded set and the contrasts; there the fine-tuned model also answers together with the linear
one. Fine-tuned models are trained with several seeds, and their mean and worst rates are shown.
A benchmark that was stopped goes on where it was.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.decision.decider import load_decider
from tagger.errors import exit_on_user_error
from tagger.evaluation.behaviour import check_behaviour, load_suite
from tagger.files import write_json
from tagger.runs import RunFolder
from tagger.training.train_run import train

PLAIN = ("rules", "linear", "frozen")


@exit_on_user_error
def main() -> None:
    """Train all of them, try the cases, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mwml", type=Path, required=True, help="Made With ML's training set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", type=Path, default=Path("data/behaviour.yaml"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/behaviour"))
    options = parser.parse_args()

    both = ["experiment=both", "data=file", "data.name=mwml", f"data.path={options.mwml}"]
    both += ["data.split.test=0"]
    for title, recipe in {"embedded set alone": [], "recommended recipe": both}.items():
        columns: dict[str, list[dict[str, Any]]] = {}
        prefix = "both" if recipe else "gold"
        for name in PLAIN:
            columns[name] = [try_run(options, f"{prefix}-{name}", [*recipe, f"model={name}"])]
        for seed in range(options.seeds):
            run = f"{prefix}-minilm-{seed}"
            tried = try_run(options, run, [*recipe, "model=minilm", f"seed={seed}"])
            columns.setdefault("minilm", []).append(tried)
            if recipe:
                members = f"model.runs=[{options.out}/both-linear,{options.out}/{run}]"
                pair = [*recipe, "model=ensemble", members]
                tried = try_run(options, f"both-pair-{seed}", pair)
                columns.setdefault("linear + minilm", []).append(tried)
        print_table(title, columns)


def try_run(options: argparse.Namespace, name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Train a run, or take it as it is when it is there, and try the cases."""
    given = [f"name={name}", f"runs_dir={options.out}", "if_exists=resume"]
    given += [f"training.threads={options.threads}", *overrides]
    run = RunFolder(train(load_config(TrainConfig, compose_config("train", given))))
    decider = load_decider(run.path, run.load_classifier())
    result = check_behaviour(decider, load_suite(options.cases)).model_dump(mode="json")
    write_json(options.out / f"{name}.json", result)
    return result


def print_table(title: str, columns: dict[str, list[dict[str, Any]]]) -> None:
    """Print the rate of each capability: the mean over seeds, and the worst of them."""
    first = next(iter(columns.values()))[0]
    print(f"\n{title}\n")
    print(f"| capability | cases | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    counts = {"all": first["num_cases"]}
    counts |= {name: one["num_cases"] for name, one in first["capabilities"].items()}
    for name, many in counts.items():
        cells = []
        for results in columns.values():
            rates = [
                one["rate"]["value"]
                for result in results
                for one in [result if name == "all" else result["capabilities"][name]]
            ]
            cell = f"{sum(rates) / len(rates):.3f}"
            cells.append(cell if len(rates) == 1 else f"{cell} ({min(rates):.3f})")
        print(f"| {name} | {many} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
