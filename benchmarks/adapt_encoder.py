"""Go on pretraining an encoder on unlabelled items of the domain.

    python benchmarks/adapt_encoder.py --input STREAM.csv --objective mlm --out FOLDER
    python train.py model.encoder=FOLDER

`mlm` guesses masked tokens (Gururangan et al., "Don't Stop Pretraining", ACL 2020). `pairs` lets a
title find its own description among those of a batch, as the encoder was pretrained to do with
other pairs (Henderson et al. 2017). One pass over the file. Whether it helps is measured by
benchmarks/recipes.py.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled, scan_unlabelled
from tagger.errors import exit_on_user_error
from tagger.models.transformer import TransformerClassifier
from tagger.progress import progress_bar

BATCH, WARMUP, MASKED = 32, 0.1, 0.15
TEMPERATURE = 0.05
FRESH_LR = 1e-3
"""Peak learning rate of layers that begin at random."""


@exit_on_user_error
def main() -> None:
    """Train over the file once, and write a folder that `model.encoder` takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, type=Path, help="items; tags are not read")
    parser.add_argument("--objective", choices=["mlm", "pairs"], required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    scan_unlabelled(options.input)
    items = list(dict.fromkeys((i.title, i.description) for i in iter_unlabelled(options.input)))
    config = load_config(TrainConfig, compose_config("train", []))
    assert isinstance(config.model, TransformerConfig)
    torch.manual_seed(options.seed)
    classifier = TransformerClassifier.build(config.model, ["unused", "too"])
    objective: MaskedTokens | Pairs = (
        MaskedTokens(classifier) if options.objective == "mlm" else Pairs(classifier)
    )
    adapt(
        objective,
        [Item("", title, description) for title, description in items],
        options.lr,
    )
    classifier.save(options.out)
    print(options.out)


class MaskedTokens(nn.Module):
    """Loss of guessing tokens that were masked, or replaced, or left as they are (80/10/10)."""

    def __init__(self, classifier: TransformerClassifier) -> None:
        super().__init__()
        self.classifier, self.encoder = classifier, classifier.module.encoder
        hidden = self.encoder.config.hidden_size
        self.transform = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.mask_id = classifier.tokenizer.token_to_id("[MASK]")

    def forward(self, items: Sequence[Item]) -> Tensor:
        """Return the mean loss over the chosen tokens of some items."""
        ids, mask = self.classifier.pad(self.classifier.tokenize(items))
        inner = mask.bool()
        inner[:, 0] = False  # the first token, and the last of each row, stand for no word
        inner &= mask.cumsum(1) < mask.sum(1, keepdim=True)
        chosen = inner & (torch.rand(ids.shape) < MASKED)
        if not chosen.any():
            return ids.new_zeros((), dtype=torch.float32)
        fate = torch.rand(ids.shape)
        changed = ids.clone()
        changed[chosen & (fate < 0.8)] = int(self.mask_id or 0)
        other = chosen & (fate >= 0.9)
        changed[other] = torch.randint(self.classifier.tokenizer.get_vocab_size(), ids.shape)[other]
        states = self.encoder(input_ids=changed, attention_mask=mask).last_hidden_state[chosen]
        embeddings = self.encoder.get_input_embeddings().weight
        return F.cross_entropy(self.transform(states) @ embeddings.T, ids[chosen])


class Pairs(nn.Module):
    """Loss of finding a title's own description among those of the batch, and the reverse."""

    def __init__(self, classifier: TransformerClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.module = classifier.module

    def forward(self, items: Sequence[Item]) -> Tensor:
        """Return the mean loss of some items that have both fields."""
        both = [item for item in items if item.title and item.description]
        titles, texts = (
            F.normalize(self.module.embed(*self.classifier.pad(self.classifier.tokenize(part))))
            for part in (
                [replace(item, description="") for item in both],
                [replace(item, title="") for item in both],
            )
        )
        similarity = titles @ texts.T / TEMPERATURE
        own = torch.arange(len(both))
        return 0.5 * (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own))


def adapt(objective: nn.Module, items: Sequence[Item], lr: float) -> None:
    """Train in place, over all items once."""
    fresh = [p for name, p in objective.named_parameters() if name.startswith("transform")]
    rest = [
        p
        for name, p in objective.named_parameters()
        if not name.startswith("transform") and p.requires_grad
    ]
    rates = [lr] + [FRESH_LR] * bool(fresh)
    groups = [{"params": group} for group in (rest, fresh) if group]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.01)
    order = torch.randperm(len(items)).tolist()
    starts = range(0, len(order) - BATCH + 1, BATCH)
    objective.train()
    with progress_bar(len(starts), "adapt", "step") as bar:
        for step, start in enumerate(starts):
            share = step / len(starts)
            factor = min(1.0, (share + 1e-3) / WARMUP, (1 - share) / (1 - WARMUP))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            with torch.autocast("cpu", torch.bfloat16):
                loss = objective([items[at] for at in order[start : start + BATCH]])
            loss.backward()
            nn.utils.clip_grad_norm_([*rest, *fresh], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            bar.update()
            bar.set_postfix_str(f"loss {float(loss):.3f}", refresh=False)
    objective.eval()


if __name__ == "__main__":
    main()
