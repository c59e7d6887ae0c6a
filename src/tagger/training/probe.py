"""Initializes the head as a linear probe instead of at random.

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
from tagger.scores import FloatArray


def start_from_probe(
    classifier: TransformerClassifier,
    items: Sequence[Item],
    weights: Sequence[float],
    C: float,
    *,
    balanced: bool = False,
    embedded: FloatArray | None = None,
) -> None:
    """Set the linear head to a logistic regression fitted on the encoder's vectors, in place.

    The vectors are scaled to a mean length of 1, for which `C` is meant.

    Args:
        classifier: Whose head is set.
        items: To fit to, n.
        weights: What each counts.
        C: Inverse of the penalty.
        balanced: Whether each tag weighs alike.
        embedded: The items' vectors, (n, hidden), where they are known; None: they are computed.
    """
    vectors = torch.from_numpy(classifier.embed(items) if embedded is None else embedded)
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


def fit_logistic_regression(
    vectors: Tensor,
    targets: Tensor,
    n_tags: int,
    C: float,
    *,
    weights: Tensor | None = None,
    balanced: bool = False,
) -> tuple[Tensor, Tensor]:
    """Minimise cross-entropy plus |weight|^2 / (2 C): what scikit-learn fits, without its import.

    Importing scikit-learn takes longer than the fit itself, in every run. With two tags this is its
    multinomial form, which penalises half as much as its binary one.

    Args:
        vectors: (n, width), double precision.
        targets: (n,).
        n_tags: Tags without a target end up the least likely.
        C: Inverse of the penalty; larger fits closer.
        weights: What each row counts, (n,); None for 1.
        balanced: Whether each tag that occurs weighs alike (King and Zeng 2001).

    Returns:
        Weight (n_tags, width) and bias (n_tags,).
    """
    weight = torch.zeros(n_tags, vectors.shape[1], dtype=vectors.dtype, requires_grad=True)
    bias = torch.zeros(n_tags, dtype=vectors.dtype, requires_grad=True)
    row_weights = torch.ones(len(targets), dtype=vectors.dtype)
    if weights is not None:
        row_weights = weights.to(vectors.dtype)
    if balanced:
        counts = torch.bincount(targets, minlength=n_tags)
        row_weights = row_weights * (len(targets) / ((counts > 0).sum() * counts[targets]))
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * C * len(vectors))
        losses = F.cross_entropy(vectors @ weight.T + bias, targets, reduction="none")
        # The bias has no penalty in scikit-learn; a trace keeps that of an absent tag finite.
        loss: Tensor = (losses * row_weights).mean() + penalty + 1e-6 * bias.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type, no-untyped-call]
    return weight.detach(), bias.detach()
