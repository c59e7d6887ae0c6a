"""The same rows to TF-IDF, SetFit, transformers' Trainer and us: F1, surest 80 %, time.

    python benchmarks/peers.py --data DATASET.csv --elsewhere LISTS.csv [--seeds 3]
        [--method tfidf] [--setfit-iterations 20]

All learn from --data without its test part, with the same MiniLM where they have an encoder, and
answer the test part and the rows of --elsewhere. A method is a process of its own. CPU seconds are
of all threads, imports included; milliseconds, of CPU time too, the median of one text at a time.
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

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items
from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.models.encoders import locate_encoder
from tagger.scores import confusion_matrix, scores_from_confusion

METHODS = ("tfidf", "trainer", "setfit", "ours-linear", "ours-frozen", "ours-minilm")
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
        (method,) = methods
        write_json(options.out / f"{method}-{options.one}.json", measure(method, options))
        return
    found = []
    for method in methods:
        if method == "setfit" and importlib.util.find_spec("setfit") is None:
            print("setfit is not installed, and is left out")
            continue
        for seed in range(options.seeds):
            given = {
                "data": options.data, "elsewhere": options.elsewhere, "out": options.out,
                "setfit-iterations": options.setfit_iterations, "method": method, "one": seed,
            }  # fmt: skip
            asked = [f"--{name}={value}" for name, value in given.items()]
            subprocess.run([sys.executable, __file__, *asked], check=True)
            found.append(json.loads((options.out / f"{method}-{seed}.json").read_text()))
            print(json.dumps(found[-1]), flush=True)
    write_json(options.out / "peers.json", found)


def measure(method: str, options: argparse.Namespace) -> dict[str, object]:
    """Train one method with one seed, and score it on both sets."""
    train, test, elsewhere, tags = read_parts(options)
    fits = {"tfidf": fit_tfidf, "trainer": fit_trainer, "setfit": fit_setfit}
    texts, labels = [item.text for item in train], [str(item.tag) for item in train]
    started = time.process_time()
    predict = fits.get(method, fit_ours)(texts, labels, tags, options)
    seconds = time.process_time() - started
    result: dict[str, object] = {"method": method, "seed": options.one}
    result["cpu_seconds"] = round(seconds, 1)
    for name, items in (("test", test), ("elsewhere", elsewhere)):
        probabilities = predict([item.text for item in items])
        truth = np.array([tags.index(str(item.tag)) for item in items])
        result |= {f"{name}_{key}": value for key, value in score(probabilities, truth).items()}
    taken = []
    for item in (*test, *elsewhere)[:TIMED]:
        began = time.process_time()
        predict([item.text])
        taken.append(time.process_time() - began)
    return result | {"cpu_ms": round(float(np.median(taken)) * 1000, 2)}


def read_parts(
    options: argparse.Namespace,
) -> tuple[list[Item], list[Item], list[Item], tuple[str, ...]]:
    """Return the rows to learn from, the test rows of the same file, those from elsewhere, tags."""
    given = ["data=file", f"data.path={options.data}", "data.extra=[]"]
    config = load_config(TrainConfig, compose_config("train", [*given, "data.tags=data/tags.yaml"]))
    source = load_labelled(config.data)
    split = split_items(source.items, config.data.split)
    other = config.data.model_copy(update={"path": options.elsewhere})
    elsewhere = load_labelled(other, source.tags).items
    train = [source.items[index] for index in (*split.train, *split.validation)]
    return train, [source.items[index] for index in split.test], elsewhere, source.tags


def minilm() -> str:
    """Return the folder of the encoder that all of them start from."""
    config = load_config(TrainConfig, compose_config("train", ["model=minilm"]))
    assert isinstance(config.model, TransformerConfig)
    return str(locate_encoder(config.model))


def score(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return the weighted and macro F1, and the accuracy on the 80 % that are surest."""
    chosen = probabilities.argmax(axis=1)
    f1 = scores_from_confusion(confusion_matrix(truth, chosen, probabilities.shape[1]))
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")[: round(0.8 * len(truth))]
    return {
        "weighted_f1": round(float(f1["weighted_f1"]), 4),
        "macro_f1": round(float(f1["macro_f1"]), 4),
        "surest_80": round(float((chosen == truth)[surest].mean()), 4),
    }


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
