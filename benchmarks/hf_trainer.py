"""The same fine-tuning with `transformers.Trainer`: what benchmarks/training_cost.py compares with.

Same encoder, rows, epochs, batch size and learning rate; everything else as the library has it.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class Rows(Dataset):
    """Tokenized texts with the positions of their tags."""

    def __init__(self, tokenizer, rows, tags):
        self.encodings = tokenizer([row["text"] for row in rows], truncation=True, max_length=128)
        self.labels = [tags.index(row["tag"]) for row in rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        columns = {name: values[index] for name, values in self.encodings.items()}
        return {**columns, "labels": self.labels[index]}


def main():
    """Train on --rows, evaluate each epoch, predict the test rows, write their scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True, help="CSV: split, text, tag")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    with options.rows.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tags = sorted({row["tag"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    parts = {
        name: Rows(tokenizer, [row for row in rows if row["split"] == name], tags)
        for name in ("train", "validation", "test")
    }

    def compute_metrics(prediction):
        predicted = prediction.predictions.argmax(1)
        truth = prediction.label_ids
        return {
            f"{average}_f1": f1_score(truth, predicted, average=average)
            for average in ("macro", "weighted")
        }

    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            options.encoder, num_labels=len(tags)
        ),
        args=TrainingArguments(
            output_dir=str(options.out),
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.lr,
            eval_strategy="epoch",
            bf16=options.bf16,
            # Trainer refuses bf16 on a CPU unless told that the CPU is meant.
            use_cpu=not torch.cuda.is_available(),
            seed=options.seed,
            report_to=[],
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    trainer.save_model(str(options.out / "model"))
    scores = trainer.predict(parts["test"]).metrics
    scores["n_test"] = len(parts["test"])
    assert np.isfinite(scores["test_loss"])
    (options.out / "scores.json").write_text(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
