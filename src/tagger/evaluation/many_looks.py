"""What a p-value is worth that was looked for among many parts."""

from tagger.scores import FloatArray


def adjust(chances: FloatArray, least_by_chance: FloatArray) -> FloatArray:
    """Adjust p-values for the number of looks, by the smallest ones that come up by chance.

    Source: Westfall and Young, "Resampling-Based Multiple Testing" (1993), the single-step minimum.
    Parts may overlap, which this takes into account and a Bonferroni correction does not.

    Args:
        chances: Of each part, or their logarithms, (n_parts,).
        least_by_chance: The smallest of all parts in each resample, on the same scale,
            (resamples,).

    Returns:
        Adjusted p-values, (n_parts,).
    """
    at_least_as_small = (least_by_chance <= chances[:, None] + 1e-12).sum(axis=1)
    adjusted: FloatArray = (1 + at_least_as_small) / (1 + len(least_by_chance))
    return adjusted
