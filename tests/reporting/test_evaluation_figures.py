from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tagger.decision.decider import PLAIN
from tagger.decision.policies import REVIEW
from tagger.evaluation.calibration import describe_calibration
from tagger.evaluation.report import (
    CorrectedCalibration,
    DecisionReport,
    EvaluationReport,
    Fitted,
)
from tagger.evaluation.selective import describe_decisions
from tagger.reporting.evaluation_figures import (
    plot_confusion,
    plot_learning_curves,
    plot_precision_recall,
    plot_reliability,
    plot_reliability_by_tag,
    plot_risk_coverage,
    plot_slices,
)
from tagger.scores import confusion_matrix

Check = Callable[[Figure], None]

GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "report.json"


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def decisions(n_tags: int, absent: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_tags)
    present = [tag for tag in range(n_tags) if tag != absent]
    true = rng.choice(present, 60)
    scores = rng.random((60, n_tags))
    scores[np.arange(60), true] += 1
    return true, scores / scores.sum(axis=1, keepdims=True)


def calibration(after: np.ndarray, before: np.ndarray, true: np.ndarray) -> CorrectedCalibration:
    tags = [str(tag) for tag in range(after.shape[1])]
    described = describe_calibration(after, true, tags)
    return CorrectedCalibration(**dict(described), before=describe_calibration(before, true, tags))


def decision(
    probabilities: np.ndarray, decided: np.ndarray, true: np.ndarray, policy: str
) -> DecisionReport:
    tags = [str(tag) for tag in range(probabilities.shape[1])]
    described = describe_decisions(probabilities, decided, true, tags, PLAIN)
    return described.model_copy(update={"policy": Fitted(kind=policy)})


@pytest.mark.slow
@pytest.mark.parametrize("n_tags", [2, 13])  # from 12 on, names are cut and shares left out
def test_any_number_of_tags_one_of_them_absent(n_tags: int, check: Check) -> None:
    tags = [f"a-tag-with-a-rather-long-name & number {number}" for number in range(n_tags)]
    true, probabilities = decisions(n_tags, absent=1)
    confusion = confusion_matrix(true, probabilities.argmax(axis=1), n_tags)
    check(plot_confusion(confusion, tags))
    check(plot_precision_recall(probabilities, true, tags))
    block = calibration(probabilities, probabilities**2, true)
    check(plot_reliability(block))
    check(plot_reliability_by_tag(block))
    decided = np.where(np.arange(60) % 3, probabilities.argmax(axis=1), REVIEW)
    published = decision(probabilities, decided, true, "threshold")
    check(plot_risk_coverage(published))


def test_cells_hold_count_and_share_of_the_true_tag() -> None:
    figure = plot_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert texts(figure) == "3\n75%\n1\n25%"
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a (4)", "b (0)"]


def test_precision_recall_states_average_precision_and_absence() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0]])
    figure = plot_precision_recall(probabilities, np.array([0, 0, 1]), ["a", "b", "c"])
    assert legend(figure) == ["a (AP 1.000)", "b (AP 1.000)", "c: no rows"]


def test_each_tag_has_its_own_reliability() -> None:
    before = np.array([[0.95, 0.05]] * 60)
    after = np.array([[0.75, 0.25]] * 60)
    figure = plot_reliability_by_tag(calibration(after, before, np.array([0, 0, 0, 1] * 15)))
    assert [axes.get_title() for axes in figure.axes] == ["0", "1"]
    for axes, raw, share in zip(figure.axes, (0.95, 0.05), (0.75, 0.25), strict=True):
        _, drawn, corrected = axes.get_lines()
        assert drawn.get_xydata() == pytest.approx(np.array([[raw, share]]))
        assert corrected.get_xydata() == pytest.approx(np.array([[share, share]]))


def test_reliability_shows_the_error_before_and_after_correction() -> None:
    before = np.array([[0.95, 0.05]] * 60)
    after = np.array([[0.75, 0.25]] * 60)
    figure = plot_reliability(calibration(after, before, np.array([0, 0, 0, 1] * 15)))
    assert legend(figure) == [
        "perfectly calibrated", "before correction (ECE 0.200)", "this run (ECE 0.000)",
    ]  # fmt: skip
    _, raw, corrected = figure.axes[0].get_lines()
    assert raw.get_xydata() == pytest.approx(np.array([[0.95, 0.75]]))
    assert corrected.get_xydata() == pytest.approx(np.array([[0.75, 0.75]]))


def test_the_risk_of_what_is_published_stands_beside_the_curve() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    true, decided = np.array([0, 0, 0, 1]), np.array([0, 0, REVIEW, REVIEW])
    figure = plot_risk_coverage(decision(probabilities, decided, true, "conformal"))
    assert legend(figure) == [
        "surest rows first (AURC 0.0625)", "published under conformal, 95% interval",
    ]  # fmt: skip
    curve, *point = figure.axes[0].get_lines()
    assert curve.get_xydata().tolist() == [[0.25, 0], [0.5, 0], [0.75, 0], [1, 0.25]]
    assert point[0].get_xydata().tolist() == [[0.5, 0]]


def test_where_nothing_is_published_there_is_the_curve_alone(check: Check) -> None:
    true, probabilities = decisions(3, absent=1)
    block = decision(probabilities, np.full(60, REVIEW), true, "threshold")
    figure = plot_risk_coverage(block)
    assert legend(figure) == [f"surest rows first (AURC {block.aurc:.4f})"]
    check(figure)


def test_learning_curves_mark_the_step_that_was_kept(check: Check) -> None:
    lines = [{"step": step, "train/loss": 1 / step} for step in range(1, 100)]
    lines += [{"step": step, "val/loss": 0.3, "val/macro_f1": 0.8} for step in (50, 99)]
    figure = plot_learning_curves(lines, best_step=50)
    assert figure is not None
    assert legend(figure) == ["training", "validation", "kept: step 50"]
    assert len(figure.axes) == 2
    check(figure)


def test_without_validation_there_is_one_panel() -> None:
    figure = plot_learning_curves([{"step": 1, "train/loss": 1.0}], best_step=None)
    assert figure is not None
    assert len(figure.axes) == 1
    assert legend(figure) == ["training"]


def test_without_logs_there_is_no_figure() -> None:
    assert plot_learning_curves([]) is None


def test_slices_stand_beside_all_rows(check: Check) -> None:
    report = EvaluationReport.read(GOLDEN)
    figure = plot_slices(report.overall, {"year 2020": report.slices["year 2020"]})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["all rows  (n=100)", "year 2020  (n=34)"]
    check(figure)
    check(plot_slices(report.overall, {}))


def test_no_global_figure_is_left_open() -> None:
    import sys

    plot_confusion(np.array([[1]]), ["a"])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
