"""The same rows to TF-IDF, SetFit, transformers' Trainer and us: F1, surest 80 %, time.

    python benchmarks/peers.py --data DATASET.csv --elsewhere LISTS.csv [--seeds 3]
        [--method tfidf] [--setfit-iterations 20]

All learn from --data without its test part, with the same MiniLM where they have an encoder, and
answer the test part and those rows of --elsewhere that no row learned from repeats. A method is a
process of its own; one whose answers --out holds, of the same files and options, is not run again.
CPU seconds are of all threads, imports included; milliseconds, of CPU time too, the median of one
text at a time. Intervals of our differences to the others hold for all of a table at once.
SetFit (`pip install setfit==1.2.0`) is left out, and said so, where it is not installed.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.compare.scoring import compare_all
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items, unseen_items
from tagger.data.tags import tag_positions
from tagger.errors import exit_on_user_error
from tagger.evaluation.selective import precision_at_coverage
from tagger.files import sha256_of, write_json
from tagger.models.encoders import locate_encoder
from tagger.reporting.markdown import markdown_table
from tagger.scores import confusion_matrix, scores_from_confusion

METHODS = ("tfidf", "trainer", "setfit", "ours-linear", "ours-frozen", "ours-minilm")
PARTS = ("test", "elsewhere")
COMPARED = ("weighted_f1", "macro_f1")
TIMED = 100
"""Texts whose answers are timed."""

Predict = Callable[[Sequence[str]], NDArray[np.float64]]
"""From texts to probabilities, (n, n_tags), in the order of the tags."""


@exit_on_user_error
def main() -> None:
    """Run all methods and seeds, print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--elsewhere", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all")
    parser.add_argument("--setfit-iterations", type=int, default=20, help="pairs a text")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/peers"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the seed of a child
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    methods = options.method or METHODS
    if options.one is not None:
        measure(*methods, options)
        return
    found: dict[str, list[dict[str, object]]] = {}
    for method in methods:
        if method == "setfit" and importlib.util.find_spec("setfit") is None:
            print("setfit is not installed, and is left out")
            continue
        for seed in range(options.seeds):
            given = {
                "data": options.data, "elsewhere": options.elsewhere, "out": options.out,
                "setfit-iterations": options.setfit_iterations, "method": method, "one": seed,
            }  # fmt: skip
            file = options.out / f"{method}-{seed}.json"
            if not file.exists() or json.loads(file.read_text())["of"] != asked(method, options):
                arguments = [f"--{name}={value}" for name, value in given.items()]
                subprocess.run([sys.executable, __file__, *arguments], check=True)
            found.setdefault(method, []).append(json.loads(file.read_text()))
    show(found, options)


def asked(method: str, options: argparse.Namespace) -> dict[str, object]:
    """Return what the figures of a method depend on, beside the seed."""
    files = {name: sha256_of(Path(getattr(options, name))) for name in ("data", "elsewhere")}
    return files | ({"iterations": options.setfit_iterations} if method == "setfit" else {})


def show(found: dict[str, list[dict[str, object]]], options: argparse.Namespace) -> None:
    """Print and save means over seeds, and the differences of ours to each of the others."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for method, seeds in found.items():
        columns = {key: [one[key] for one in seeds] for key in seeds[0] if key != "of"}
        summary[method] = {
            key: {
                "mean": float(np.mean(values)),
                "sd": round(float(np.std(values, ddof=len(seeds) > 1)), 9),
            }
            for key, values in columns.items()
        }
    keys = list(next(iter(summary.values())))
    rows = [
        [method, *(f"{one[key]['mean']:.4g} (sd {one[key]['sd']:.2g})" for key in keys)]
        for method, one in summary.items()
    ]
    print("\n".join(markdown_table(["method", *keys], rows)))
    pairs = [
        (ours, other) for ours in found if ours.startswith("ours") for other in found
        if not other.startswith("ours")
    ]  # fmt: skip
    differences = {}
    for part in PARTS:
        answers = {
            method: [np.load(options.out / f"{method}-{seed}.npz") for seed in range(len(seeds))]
            for method, seeds in found.items()
        }
        true = next(iter(answers.values()))[0][f"{part}_true"]
        made = {name: np.stack([one[part] for one in seeds]) for name, seeds in answers.items()}
        for score in COMPARED:
            compared = compare_all(made, true, score, pairs=pairs)
            differences[f"{part}_{score}"] = [one.model_dump() for one in compared]
            for one in compared:
                print(
                    f"{part}, {score}: {one.one} minus {one.other}: {one.value:+.4f} "
                    f"[{one.low:+.4f}, {one.high:+.4f}]"
                )
    write_json(options.out / "peers.json", {"methods": summary, "differences": differences})


def measure(method: str, options: argparse.Namespace) -> None:
    """Train one method with one seed, score it on both parts, save its answers and figures."""
    train, test, elsewhere, tags = read_parts(options)
    fits = {"tfidf": fit_tfidf, "trainer": fit_trainer, "setfit": fit_setfit}
    texts, labels = [item.text for item in train], [str(item.tag) for item in train]
    started = time.process_time()
    predict = fits.get(method, fit_ours)(texts, labels, tags, options)
    figures: dict[str, object] = {"cpu_seconds": round(time.process_time() - started, 1)}
    answers = {}
    for name, items in zip(PARTS, (test, elsewhere), strict=True):
        probabilities = predict([item.text for item in items])
        truth = tag_positions(items, tags)
        answers |= {name: probabilities, f"{name}_true": truth}
        figures |= {f"{name}_{key}": value for key, value in score(probabilities, truth).items()}
    taken = []
    for item in (*test, *elsewhere)[:TIMED]:
        began = time.process_time()
        predict([item.text])
        taken.append(time.process_time() - began)
    figures |= {"cpu_ms": round(float(np.median(taken)) * 1000, 2), "of": asked(method, options)}
    np.savez(options.out / f"{method}-{options.one}.npz", **answers)
    write_json(options.out / f"{method}-{options.one}.json", figures)


def read_parts(
    options: argparse.Namespace,
) -> tuple[list[Item], list[Item], list[Item], tuple[str, ...]]:
    """Return the rows to learn from, the test rows of the same file, those from elsewhere, tags."""
    given = ["data=file", f"data.path={options.data}", "data.extra=[]"]
    config = load_config(TrainConfig, compose_config("train", [*given, "data.tags=data/tags.yaml"]))
    source = load_labelled(config.data)
    split = split_items(source.items, config.data.split)
    train = [source.items[index] for index in (*split.train, *split.validation)]
    other = config.data.model_copy(update={"path": options.elsewhere})
    elsewhere = load_labelled(other, source.tags).items
    unseen = [elsewhere[index] for index in unseen_items(elsewhere, train)]
    return train, [source.items[index] for index in split.test], unseen, source.tags


def minilm() -> str:
    """Return the folder of the encoder that all of them start from."""
    config = load_config(TrainConfig, compose_config("train", ["model=minilm"]))
    assert isinstance(config.model, TransformerConfig)
    return str(locate_encoder(config.model))


def score(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return the weighted and macro F1, and the precision of the 80 % that are surest."""
    chosen = probabilities.argmax(axis=1)
    f1 = scores_from_confusion(confusion_matrix(truth, chosen, probabilities.shape[1]))
    surest = precision_at_coverage(probabilities.max(axis=1), chosen == truth, 0.8)
    return {**{name: float(f1[name]) for name in COMPARED}, "surest_80": surest}


def fit_tfidf(
    texts: list[str], labels: list[str], tags: Sequence[str], options: argparse.Namespace
) -> Predict:
    """Train scikit-learn's TF-IDF and logistic regression, each as the library has it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(), LogisticRegression(max_iter=1000, random_state=options.one)
    )
    model.fit(texts, labels)
    order = [list(model.classes_).index(tag) for tag in tags]
    return lambda given: model.predict_proba(given)[:, order]


def fit_ours(
    texts: list[str], labels: list[str], tags: Sequence[str], options: argparse.Namespace
) -> Predict:
    """Train `tagger.TextTagger` with the recipe after `ours-`."""
    from tagger import TextTagger

    model = TextTagger(options.method[0].removeprefix("ours-"), seed=options.one).fit(texts, labels)
    order = [list(model.classes_).index(tag) for tag in tags]
    return lambda given: model.predict_proba(list(given))[:, order]


def fit_trainer(
    texts: list[str], labels: list[str], tags: Sequence[str], options: argparse.Namespace
) -> Predict:
    """Fine-tune with transformers' Trainer: our epochs, batch and rate, else its own defaults."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from hf_trainer import Rows

    encoder = minilm()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    rows = [{"text": text, "tag": tag} for text, tag in zip(texts, labels, strict=True)]
    torch.manual_seed(options.one)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(tags))
    arguments = TrainingArguments(
        output_dir="benchmarks/out/peers/trainer", num_train_epochs=4, save_strategy="no",
        per_device_train_batch_size=16, learning_rate=5e-5, seed=options.one, report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    collate = DataCollatorWithPadding(tokenizer)
    Trainer(
        model=model, args=arguments, data_collator=collate,
        train_dataset=Rows(tokenizer, rows, list(tags)),
    ).train()  # fmt: skip
    model.eval()

    @torch.inference_mode()
    def predict(given: Sequence[str]) -> NDArray[np.float64]:
        found = []
        for at in range(0, len(given), 64):
            batch = tokenizer(
                list(given[at : at + 64]), truncation=True, max_length=128, padding=True,
                return_tensors="pt",
            )  # fmt: skip
            found.append(model(**batch).logits.softmax(dim=1).double().numpy())
        return np.concatenate(found)

    return predict


def fit_setfit(
    texts: list[str], labels: list[str], tags: Sequence[str], options: argparse.Namespace
) -> Predict:
    """Fine-tune on pairs and fit a head with SetFit, as its documentation shows it."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    model = SetFitModel(
        model_body=SentenceTransformer(minilm(), device="cpu"), model_head=LogisticRegression(),
        labels=list(tags),
    )  # fmt: skip
    positions = [tags.index(label) for label in labels]
    arguments = TrainingArguments(
        output_dir="benchmarks/out/peers/setfit", num_iterations=options.setfit_iterations,
        batch_size=16, num_epochs=1, seed=options.one, report_to="none", save_strategy="no",
    )  # fmt: skip
    rows = Dataset.from_dict({"text": texts, "label": positions})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    return lambda given: np.asarray(model.predict_proba(list(given), as_numpy=True), np.float64)


if __name__ == "__main__":
    main()
