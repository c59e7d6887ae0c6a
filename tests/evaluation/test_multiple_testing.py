import numpy as np

from tagger.evaluation.multiple_testing import adjust_p_values


def test_a_p_value_is_the_share_of_resamples_with_one_as_small_the_real_one_among_them() -> None:
    least = np.array([0.001, 0.02, 0.02, 0.5])
    assert adjust_p_values(np.array([0.0005, 0.02, 0.9]), least).tolist() == [1 / 5, 4 / 5, 1.0]
