"""Initializes the head as a linear probe instead of at random.

A random head sends large, meaningless gradients into the encoder in the first steps. A logistic
regression on the frozen encoder's vectors gives the head that the encoder already deserves; what
follows improves on it (Kumar et al. 2022, LP-FT).
"""

from collections.abc import Sequence

import torch
from torch import nn

from tagger.data.items import Item
from tagger.models.logistic import fit_logistic_regression
from tagger.models.transformer import TransformerClassifier


def start_from_probe(
    classifier: TransformerClassifier,
    items: Sequence[Item],
    weights: Sequence[float],
    C: float,
    balanced: bool = False,
) -> None:
    """Set the linear head to a logistic regression fitted on the encoder's vectors, in place.

    Args:
        classifier: Its head must be linear.
        items: Labelled training items.
        weights: What each of them counts.
        C: Of the regression, for vectors of mean length 1; larger fits closer.
        balanced: Whether each tag weighs alike.
    """
    vectors = torch.from_numpy(classifier.embed(items))
    scale = vectors.norm(dim=1).mean()
    positions = {tag: position for position, tag in enumerate(classifier.tags)}
    targets = torch.tensor([positions[item.tag or ""] for item in items])
    weight, bias = fit_logistic_regression(
        vectors / scale,
        targets,
        len(positions),
        C,
        weights=torch.tensor(weights, dtype=vectors.dtype),
        balanced=balanced,
    )
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        # Rounded before they are copied to the device: MPS has no float64.
        head.weight.copy_((weight / scale).to(head.weight.dtype))
        head.bias.copy_(bias.to(head.bias.dtype))
