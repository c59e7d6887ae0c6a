"""A head that starts as a linear probe instead of at random.

A random head sends large, meaningless gradients into the encoder in the first steps. A logistic
regression on the frozen encoder's vectors gives the head that the encoder already deserves; what
follows improves on it (Kumar et al. 2022, LP-FT).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    """
    vectors = torch.from_numpy(classifier.embed(items))
    scale = vectors.norm(dim=1).mean()
    positions = {tag: position for position, tag in enumerate(classifier.tags)}
    targets = torch.tensor([positions[item.tag or ""] for item in items])
    weight, bias = fit_logistic_regression(vectors / scale, targets, len(positions), strength)
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias)


def fit_logistic_regression(
    vectors: Tensor, targets: Tensor, n_tags: int, strength: float
) -> tuple[Tensor, Tensor]:
    """Minimise cross-entropy plus |weight|^2 / (2 C): what scikit-learn fits, without its import.

    Importing scikit-learn takes longer than the fit itself, in every run.

    Args:
        vectors: (n, width), double precision.
        targets: (n,).
        n_tags: Tags without a target end up the least likely.
        strength: C.

    Returns:
        Weight (n_tags, width) and bias (n_tags,).
    """
    weight = torch.zeros(n_tags, vectors.shape[1], dtype=vectors.dtype, requires_grad=True)
    bias = torch.zeros(n_tags, dtype=vectors.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * strength * len(vectors))
        # The bias has no penalty in scikit-learn; a trace keeps that of an absent tag finite.
        loss: Tensor = F.cross_entropy(vectors @ weight.T + bias, targets) + penalty
        loss = loss + 1e-6 * bias.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type, no-untyped-call]
    return weight.detach(), bias.detach()
