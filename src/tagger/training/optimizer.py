"""AdamW with a rate of its own for the head and for each layer, and the schedule of the rates."""

import math

from torch import nn
from torch.optim import AdamW

from tagger.config.schema import TrainingConfig
from tagger.models.encoders import encoder_layers
from tagger.models.transformer import TransformerModule


def build_optimizer(module: TransformerModule, config: TrainingConfig) -> AdamW:
    """Group the trainable parameters by learning rate and weight decay.

    The top layer learns at `lr`, each layer below at `layer_decay` times the rate of the one above
    (Howard and Ruder 2018, discriminative fine-tuning), the embeddings below the lowest layer, the
    head at `head_lr`. Biases and normalisation weights do not decay (Loshchilov and Hutter 2019
    leave this open; it is what BERT did).
    """
    rates = {id(parameter): config.head_lr for parameter in module.head.parameters()}
    if config.layer_decay < 1:
        layers = encoder_layers(module.encoder)
        for depth, layer in enumerate(layers):
            rate = config.lr * config.layer_decay ** (len(layers) - 1 - depth)
            rates |= {id(parameter): rate for parameter in layer.parameters()}
        lowest = config.lr * config.layer_decay ** len(layers)
        rates |= {id(p): lowest for p in module.encoder.parameters() if id(p) not in rates}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rates.get(id(parameter), config.lr), decay), []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


def schedule_factor(kind: str, step: int, total_steps: int, warmup: float) -> float:
    """Return the share of the peak rate at which step `step` (from 0) is taken.

    It rises linearly over the first `warmup` of all steps, then falls to 0 at the end along a line
    or a half cosine (Loshchilov and Hutter 2017), or stays. It depends on nothing but the step, so
    that a resumed run needs no state for it.
    """
    warmup_steps = round(warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if kind == "linear":
        return 1 - progress
    if kind == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1.0
