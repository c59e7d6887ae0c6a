"""Smaller encoders, cut out of a larger one: fewer layers, narrower states, fewer neurons.

What is cut is chosen by the size of the weights alone, without data. A student is only as good as
what it learns afterwards; see `tagger.training.distillation`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

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


def narrow(encoder: nn.Module, width: int | None, neurons: int | None) -> BertEncoder:
    """Make a narrower encoder of the weights that matter most in a wider one.

    Of a token's state those numbers stay that the layers read with the largest weights; of the
    attention heads those whose outputs are written with the largest; of a feed-forward part the
    neurons with the largest product of both norms.

    Args:
        encoder: A `BertEncoder`; it stays as it is.
        width: Numbers that a token's state keeps, a multiple of the size of a head; None: all.
        neurons: Neurons that each feed-forward part keeps; None: all.

    Raises:
        UserError: for other encoders, and for sizes that it does not have.
    """
    if not isinstance(encoder, BertEncoder):
        raise UserError(
            f"model.keep_width and model.keep_neurons cut encoders of type BERT, and this is "
            f"{type(encoder).__name__}"
        )
    config = encoder.config
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    size = hidden // heads
    width, neurons = width or hidden, neurons or inner
    if width > hidden or width % size:
        raise UserError(
            f"model.keep_width={width}: expected a multiple of {size} (the size of an attention "
            f"head), at most {hidden}"
        )
    if neurons > inner:
        raise UserError(f"model.keep_neurons={neurons}: the encoder has {inner} in each layer")
    layers = len(encoder.encoder.layer)
    sizes = {"hidden_size": width, "intermediate_size": neurons, "num_hidden_layers": layers}
    narrower = BertEncoder({**encoder.settings, **sizes, "num_attention_heads": width // size})
    states = _most_read(encoder, width)
    weights = encoder.state_dict()
    for name in [name for name in weights if name.startswith("embeddings.")]:
        weights[name] = weights[name].index_select(-1, states)
    for number in range(layers):
        part = f"encoder.layer.{number}."
        written = weights[f"{part}attention.output.dense.weight"].norm(dim=0)
        chosen = _largest(written.view(heads, size).norm(dim=1), width // size)
        within = (chosen[:, None] * size + torch.arange(size)).flatten()
        strength = weights[f"{part}intermediate.dense.weight"].norm(dim=1)
        strength = strength * weights[f"{part}output.dense.weight"].norm(dim=0)
        rows = {"intermediate.dense": _largest(strength, neurons)}
        rows |= {f"attention.self.{kind}": within for kind in ("query", "key", "value")}
        columns = {"attention.output.dense": within, "output.dense": rows["intermediate.dense"]}
        for name in [name for name in weights if name.startswith(part)]:
            module = name.removeprefix(part).rpartition(".")[0]
            tensor = weights[name].index_select(0, rows.get(module, states))
            if tensor.ndim == 2:
                tensor = tensor.index_select(1, columns.get(module, states))
            weights[name] = tensor
    narrower.load_state_dict(weights)
    return narrower


def _most_read(encoder: BertEncoder, width: int) -> Tensor:
    """Return the places of a token's state that the layers read most, (width,)."""
    total = torch.zeros(encoder.config.hidden_size)
    layer: Any
    for layer in encoder.encoder.layer:
        attention = layer.attention.self
        for reader in (attention.query, attention.key, attention.value, layer.intermediate.dense):
            total += reader.weight.detach().square().sum(dim=0)
    return _largest(total, width)


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the places of the largest values, in their own order."""
    return values.topk(count).indices.sort().values
