"""Cuts smaller encoders out of a larger one: fewer layers, fewer neurons.

Neurons are chosen by the size of their weights alone, without data. A student is only as good as
what it learns afterwards; see `tagger.training.distillation`.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from tagger.errors import UserError
from tagger.models.bert import BertEncoder
from tagger.models.encoders import encoder_layers


def keep_layers(encoder: nn.Module, kept: Sequence[int]) -> None:
    """Take all but some layers out of an encoder, in place.

    Args:
        encoder: Of any kind that has a stack of layers.
        kept: Which layers stay, 0 the lowest, ascending.

    Raises:
        UserError: when there is no such layer.
    """
    stack = encoder_layers(encoder)
    absent = [layer for layer in kept if layer >= len(stack)]
    if absent:
        raise UserError(
            f"model.keep_layers={list(kept)}: there is no layer {absent[0]}",
            hint=f"The encoder has {len(stack)} layers, counted from 0.",
        )
    chosen = [stack[layer] for layer in kept]
    del stack[:]
    stack.extend(chosen)
    config: Any = encoder.config
    config.num_hidden_layers = len(chosen)


def keep_neurons(encoder: nn.Module, neurons: int) -> None:
    """Leave in each feed-forward part the neurons with the largest weights, in place.

    The weight of a neuron is the product of the norms of what it reads with and what it writes.

    Args:
        encoder: A `BertEncoder`.
        neurons: How many stay in each layer.

    Raises:
        UserError: for other encoders, and for more neurons than there are.
    """
    if not isinstance(encoder, BertEncoder):
        raise UserError(
            f"model.keep_neurons cuts encoders of type BERT, and this is {type(encoder).__name__}"
        )
    inner = encoder.config.intermediate_size
    if neurons > inner:
        raise UserError(f"model.keep_neurons={neurons}: the encoder has {inner} in each layer")
    layer: Any
    for layer in encoder.encoder.layer:
        reading, writing = layer.intermediate.dense, layer.output.dense
        norms = reading.weight.norm(dim=1) * writing.weight.norm(dim=0)
        kept = norms.topk(neurons).indices.sort().values
        reading.weight = nn.Parameter(reading.weight.detach()[kept])
        reading.bias = nn.Parameter(reading.bias.detach()[kept])
        writing.weight = nn.Parameter(writing.weight.detach()[:, kept])
        reading.out_features = writing.in_features = neurons
    encoder.settings = {**encoder.settings, "intermediate_size": neurons}
    encoder.config.intermediate_size = neurons
