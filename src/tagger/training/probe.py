"""A head that starts as a linear probe instead of at random.

A random head sends large, meaningless gradients into the encoder in the first steps. A logistic
regression on the frozen encoder's vectors gives the head that the encoder already deserves; what
follows improves on it (Kumar et al. 2022, LP-FT).
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from tagger.data.items import Item
from tagger.models.transformer import TransformerClassifier


def start_from_probe(
    classifier: TransformerClassifier, items: Sequence[Item], strength: float
) -> None:
    """Set the linear head to a logistic regression fitted on the encoder's vectors, in place.

    Args:
        classifier: Its head must be linear.
        items: Labelled training items.
        strength: C of the regression, for vectors of mean length 1; larger fits closer.

    A tag without items starts with weight 0 and the lowest bias of the others.
    """
    vectors = classifier.embed(items)
    scale = float(np.linalg.norm(vectors, axis=1).mean())
    positions = {tag: position for position, tag in enumerate(classifier.tags)}
    targets = np.array([positions[item.tag or ""] for item in items])
    present = np.unique(targets)
    if len(present) < 2:
        return  # nothing to tell apart
    regression = LogisticRegression(C=strength, max_iter=5000).fit(vectors / scale, targets)
    weight, bias = regression.coef_ / scale, regression.intercept_
    if len(present) == 2:  # scikit-learn gives one row then, that of the second tag
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head = classifier.module.head
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(float(bias.min()))
        head.weight[present] = torch.from_numpy(weight).to(head.weight)
        head.bias[present] = torch.from_numpy(bias).to(head.bias)
