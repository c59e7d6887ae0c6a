"""Exact binomial bounds and p-values of a proportion."""

# Not scipy.stats: its import takes most of a second, and its functions a hundred times as long.
from scipy.special import bdtr, betaincinv


def clopper_pearson_lower(successes: int, trials: int, confidence: float) -> float:
    """Return the lower end of the one-sided exact interval of a proportion.

    Clopper & Pearson (Biometrika 1934): whatever the true proportion is, the end lies above it in
    at most a share of 1 - `confidence` of all samples.

    Args:
        successes: From 0 to `trials`.
        trials: Without a trial the end is 0.
        confidence: Between 0 and 1.
    """
    if successes == 0:
        return 0.0
    return float(betaincinv(successes, trials - successes + 1, 1 - confidence))


def p_value_of_precision(errors: int, published: int, precision: float) -> float:
    """Return the chance of so few errors, or fewer, if the precision were only `precision`.

    The p-value of the hypothesis that the promise is not kept; a small one rejects it.
    """
    return float(bdtr(errors, published, 1 - precision)) if published else 1.0
