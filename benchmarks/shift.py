"""Content from another source: who notices, and what happens to a promise of precision.

    python benchmarks/shift.py --data DATASET.csv

The embedded set and DATASET.csv take turns as the source that is trained on. Each of its five folds
is predicted by a model that did not see it, and so is all of the other source. What such a model
knows of a text (probabilities, energy, distance to what it was trained on) is compared in two ways:

* how well it tells the other source from its own (AUROC);
* whether what it calls surest is right (area under the risk-coverage curve, of both sources at once
  and of the other one alone).

Policies and limits of OOD scores are then fitted to the source that was trained on, out of fold,
and judged on the other one.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from tagger.compare.comparison import threshold_config
from tagger.compare.runs import LabelledFile, drop_model, make_run, run_config
from tagger.config.schema import DecisionConfig
from tagger.data.splits import split_items
from tagger.decision.decider import CalibrationSet, fit_rule
from tagger.decision.ood import OodDetector
from tagger.decision.policies import REVIEW
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.evaluation.selective import area_under_risk_coverage
from tagger.files import replacing, write_json
from tagger.models.transformer import TransformerClassifier
from tagger.scores import FloatArray, IntArray

FOLDS = 5
OOD_SCORES = ("knn", "energy")
SCORES = ("probability", *OOD_SCORES)
QUANTILES = (0.80, 0.90, 0.95)
POLICIES: dict[str, dict[str, Any]] = {
    "argmax": {"policy": "argmax"},
    "threshold 0.95": {"policy": "threshold", "target_precision": 0.95},
    "threshold 0.97": {"policy": "threshold", "target_precision": 0.97},
    "threshold 0.98": {"policy": "threshold", "target_precision": 0.98},
    "threshold 0.95 of each tag": {
        "policy": "threshold",
        "target_precision": 0.95,
        "scope": "per_tag",
    },
    "conformal 0.05": {"policy": "conformal", "alpha": 0.05},
    "conformal 0.02": {"policy": "conformal", "alpha": 0.02},
}


@exit_on_user_error
def main() -> None:
    """Train, compare scores and policies in both directions, print and save the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the other labelled source")
    parser.add_argument("--recipe", nargs="*", default=["model=minilm"], help="overrides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/shift"))
    options = parser.parse_args()

    tags = Path("data/tags.yaml")
    gold, other = (
        LabelledFile.load(Path("data/gold.csv"), tags),
        LabelledFile.load(options.data, tags),
    )
    report: dict[str, Any] = {}
    for in_domain, cross_domain in ((gold, other), (other, gold)):
        views = [fold_view(in_domain, cross_domain, fold, options) for fold in range(FOLDS)]
        print(f"\ntrained on {in_domain.name}, the other source is {cross_domain.name}")
        scores = compare_scores(views)
        policies = compare_policies(views)
        print_scores(scores)
        print_policies(policies)
        report[in_domain.name] = {"scores": scores, "policies": policies}
    write_json(
        options.out / "shift.json", report | {"environment": describe_environment().model_dump()}
    )


def fold_view(
    in_domain: LabelledFile, cross_domain: LabelledFile, fold: int, options: argparse.Namespace
) -> dict[str, FloatArray]:
    """Train without one fold; return what the model knows of that fold and of the other source.

    Returns:
        For `in_domain` and `cross_domain`: `<place>_probabilities` (n, n_tags), `<place>_true`
        (n,), and by name of each of `OOD_SCORES` `<place>_<name>` (n,), higher being stranger.
    """
    path = options.out / f"{in_domain.name}-fold{fold}.npz"
    if path.exists():
        return dict(np.load(path))
    split = {"folds": FOLDS, "fold": fold, "seed": options.seed}
    folder = options.out / f"{in_domain.name}-fold{fold}"
    config = run_config(options.recipe, in_domain, folder, options.seed, split)
    run = make_run(config)
    classifier = run.load_classifier()
    assert isinstance(classifier, TransformerClassifier)
    division = split_items(in_domain.items, config.data.split)
    known = classifier.embed([in_domain.items[at] for at in division.train])
    detector = OodDetector.fit(known)
    view: dict[str, FloatArray] = {}
    for place, source, rows in (
        ("in_domain", in_domain, division.test),
        ("cross_domain", cross_domain, list(range(len(cross_domain.items)))),
    ):
        vectors = classifier.embed([source.items[at] for at in rows])
        view[f"{place}_probabilities"] = classifier.predict_from_vectors(vectors)
        view[f"{place}_true"] = source.true[rows].astype(np.float64)
        view[f"{place}_knn"] = detector.score(vectors)
        view[f"{place}_energy"] = energy(classifier, vectors)
    drop_model(run)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **view)  # type: ignore[arg-type]  # arrays by name
    return view


def energy(classifier: TransformerClassifier, vectors: FloatArray) -> FloatArray:
    """Return the free energy of each vector's logits, (n,): Liu et al., NeurIPS 2020."""
    head = classifier.module.head
    parameter = next(head.parameters())
    with torch.inference_mode():
        logits = head(torch.from_numpy(vectors).to(parameter.dtype)).double()
    result: FloatArray = -logits.logsumexp(-1).numpy()
    return result


def compare_scores(views: list[dict[str, FloatArray]]) -> dict[str, dict[str, float]]:
    """Compare how well scores tell the other source's items, and errors: means over the folds."""
    table: dict[str, list[dict[str, float]]] = {name: [] for name in SCORES}
    for view in views:
        right = {
            place: view[f"{place}_probabilities"].argmax(1) == view[f"{place}_true"]
            for place in ("in_domain", "cross_domain")
        }
        both = np.concatenate([right["in_domain"], right["cross_domain"]])
        foreign = np.concatenate(
            [np.zeros(len(right["in_domain"])), np.ones(len(right["cross_domain"]))]
        )
        for name in SCORES:
            strange = {place: ood_score(view, place, name) for place in right}
            joined = np.concatenate([strange["in_domain"], strange["cross_domain"]])
            table[name].append(
                {
                    "auroc_source": float(roc_auc_score(foreign, joined)),
                    "auroc_errors_cross_domain": float(
                        roc_auc_score(~right["cross_domain"], strange["cross_domain"])
                    ),
                    "aurc_both": area_under_risk_coverage(-joined, both),
                    "aurc_cross_domain": area_under_risk_coverage(
                        -strange["cross_domain"], right["cross_domain"]
                    ),
                }
            )
    return {
        name: {key: float(np.mean([one[key] for one in rows])) for key in rows[0]}
        for name, rows in table.items()
    }


def ood_score(view: Mapping[str, FloatArray], place: str, name: str) -> FloatArray:
    """Return the OOD score of each row, (n,); that of a probability is its negative."""
    if name == "probability":
        least: FloatArray = -view[f"{place}_probabilities"].max(axis=1)
        return least
    return view[f"{place}_{name}"]


def compare_policies(views: list[dict[str, FloatArray]]) -> dict[str, dict[str, float]]:
    """Fit each policy to the folds of the own source, and judge it on both sources."""
    joined = {key: np.concatenate([view[key] for view in views]) for key in views[0]}
    fold = np.concatenate([np.full(len(v["in_domain_true"]), at) for at, v in enumerate(views)])
    table = {}
    for policy, given in POLICIES.items():
        for ood in ("none", *OOD_SCORES):
            for quantile in QUANTILES if ood != "none" else QUANTILES[:1]:
                # The rule needs to know of a limit, not of what the scores are made of.
                asked = {"ood": "none" if ood == "none" else "knn"}
                config = threshold_config().model_copy(
                    update=given | asked | {"ood_quantile": quantile}
                )
                name = policy if ood == "none" else f"{policy}, {ood} {quantile:.2f}"
                table[name] = judge(config, ood, joined, fold, views)
    return table


def judge(
    config: DecisionConfig,
    ood: str,
    joined: Mapping[str, FloatArray],
    fold: IntArray,
    views: list[dict[str, FloatArray]],
) -> dict[str, float]:
    """Return coverage and precision, in-domain (each fold by the others) and cross-domain."""

    def rows(chosen: Any) -> CalibrationSet:
        return CalibrationSet(
            joined["in_domain_probabilities"][chosen],
            joined["in_domain_true"][chosen].astype(np.int64),
            None if ood == "none" else joined[f"in_domain_{ood}"][chosen],
            "",
        )

    outcomes: dict[str, list[Any]] = {"in_domain": [], "cross_domain": []}
    for at, view in enumerate(views):
        rule = fit_rule(config, rows(fold != at))
        for place, parts in outcomes.items():
            strange = None if ood == "none" else view[f"{place}_{ood}"]
            decided = rule.apply(view[f"{place}_probabilities"], strange).tags
            parts.append((decided != REVIEW, decided == view[f"{place}_true"]))
    result = {}
    for place, parts in outcomes.items():
        published = np.concatenate([one for one, _ in parts])
        right = np.concatenate([one for _, one in parts])
        result[f"{place}_coverage"] = float(published.mean())
        result[f"{place}_precision"] = float(right[published].mean()) if published.any() else 1.0
    return result


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """Print the comparison of scores as a Markdown table."""
    print("\n| score | AUROC, the other source | AUROC, errors there | AURC, both | AURC, there |")
    print("|---|---|---|---|---|")
    for name, row in scores.items():
        print(
            f"| {name} | {row['auroc_source']:.3f} | {row['auroc_errors_cross_domain']:.3f} | "
            f"{row['aurc_both']:.4f} | {row['aurc_cross_domain']:.4f} |"
        )


def print_policies(policies: dict[str, dict[str, float]]) -> None:
    """Print the comparison of policies as a Markdown table."""
    print(
        "\n| policy, OOD score | own source: published | its precision | other source | precision |"
    )
    print("|---|---|---|---|---|")
    for name, row in policies.items():
        cells = [
            f"{row[f'{place}_{what}']:.{digits}f}"
            for place in ("in_domain", "cross_domain")
            for what, digits in (("coverage", 3), ("precision", 4))
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
