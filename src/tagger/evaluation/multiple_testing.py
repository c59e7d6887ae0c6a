"""Adjusts p-values for multiple comparisons (Westfall-Young, single-step minP)."""

from tagger.scores import FloatArray


def adjust_p_values(p_values: FloatArray, smallest_by_chance: FloatArray) -> FloatArray:
    """Adjust p-values by the distribution of the smallest one under the null hypothesis.

    Source: Westfall and Young, "Resampling-Based Multiple Testing" (1993). Tests may depend on each
    other, which this takes into account and a Bonferroni correction does not.

    Args:
        p_values: Of each test, or their logarithms, (n_tests,).
        smallest_by_chance: The smallest of all tests in each resample, on the same scale,
            (resamples,).

    Returns:
        Adjusted p-values, (n_tests,).
    """
    at_least_as_small = (smallest_by_chance <= p_values[:, None] + 1e-12).sum(axis=1)
    adjusted: FloatArray = (1 + at_least_as_small) / (1 + len(smallest_by_chance))
    return adjusted
