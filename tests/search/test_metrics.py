import numpy as np
import pytest
from optuna.study import StudyDirection
from sklearn import metrics

from tagger.config.schema import COST_METRICS, ROW_METRICS
from tagger.scores import FloatArray, IntArray
from tagger.search.metrics import direction_of, is_better, score_rows

SMALLER = {"aurc", "log_loss", *COST_METRICS}


@pytest.fixture
def answers() -> tuple[FloatArray, IntArray]:
    """200 rows of four tags, one of which never occurs; two in three are answered rightly."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 200)
    scores = rng.random((200, 4))
    scores[np.arange(200), true] += 0.6
    return scores / scores.sum(axis=1, keepdims=True), true


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("kind", ["precision", "recall", "f1"])
def test_averages_are_those_of_the_library(
    answers: tuple[FloatArray, IntArray], average: str, kind: str
) -> None:
    probabilities, true = answers
    theirs = getattr(metrics, f"{kind}_score")(
        true, probabilities.argmax(axis=1), labels=range(4), average=average, zero_division=0
    )
    assert 0 < theirs < 1
    assert score_rows(f"{average}_{kind}", probabilities, true) == pytest.approx(theirs)


def test_accuracy_and_log_loss_are_those_of_the_library(
    answers: tuple[FloatArray, IntArray],
) -> None:
    probabilities, true = answers
    right = metrics.accuracy_score(true, probabilities.argmax(axis=1))
    assert score_rows("accuracy", probabilities, true) == pytest.approx(right)
    loss = metrics.log_loss(true, probabilities, labels=range(4))
    assert score_rows("log_loss", probabilities, true) == pytest.approx(loss)


def test_the_loss_of_an_impossible_tag_has_an_end() -> None:
    loss = score_rows("log_loss", np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert loss == pytest.approx(-np.log(1e-12) / 2)


# Twenty rows, the surest first; the last of them, and the eighteenth, are answered wrongly.
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("precision_at_80", 1.0),
        ("precision_at_90", 17 / 18),
        ("precision_at_95", 18 / 19),
        ("aurc", (1 / 18 + 1 / 19 + 2 / 20) / 20),
    ],
)
def test_surest_rows_come_first(metric: str, expected: float) -> None:
    confidence = np.linspace(0.95, 0.55, 20)
    true = np.zeros(20, dtype=np.int64)
    true[[17, 19]] = 1
    probabilities = np.column_stack([confidence, 1 - confidence])
    assert score_rows(metric, probabilities, true) == pytest.approx(expected)
    mixed = np.random.default_rng(0).permutation(20)
    assert score_rows(metric, probabilities[mixed], true[mixed]) == pytest.approx(expected)


def test_every_metric_that_can_be_asked_for_is_a_number(
    answers: tuple[FloatArray, IntArray],
) -> None:
    for metric in ROW_METRICS:
        value = score_rows(metric, *answers)
        assert type(value) is float
        assert 0 < value < 2


@pytest.mark.parametrize("metric", [*ROW_METRICS, *COST_METRICS])
def test_directions(metric: str) -> None:
    smaller = metric in SMALLER
    wanted = StudyDirection.MINIMIZE if smaller else StudyDirection.MAXIMIZE
    assert direction_of(metric) == wanted
    assert is_better(metric, 0.1, 0.2) == smaller
    assert is_better(metric, 0.2, 0.1) != smaller
    assert not is_better(metric, 0.1, 0.1)


def test_a_metric_goes_the_way_of_its_name(answers: tuple[FloatArray, IntArray]) -> None:
    """Answers that are all right and sure beat others in every metric."""
    probabilities, true = answers
    perfect = np.eye(4)[true]
    for metric in ROW_METRICS:
        best, other = score_rows(metric, perfect, true), score_rows(metric, probabilities, true)
        assert is_better(metric, best, other) or best == other == 1.0, metric
