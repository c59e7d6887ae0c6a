import json
import warnings

import numpy as np
import pytest

from tagger.errors import UserError
from tagger.models import cpu_features
from tagger.models.cpu_features import check_cpu_features

HERE, THERE = ["avx2", "fma"], ["avx2", "avx512_vnni"]
GIVEN = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])


class Fixed:
    """Answers with the same probabilities, whatever it is asked."""

    tags = ("a", "b")

    def __init__(self, probabilities):
        self.probabilities = np.array(probabilities)

    def predict_proba(self, items):
        assert [(item.title, item.description) for item in items] == [
            (f"title {n}", "") for n in range(len(self.probabilities))
        ]
        return self.probabilities


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    monkeypatch.setattr(cpu_features, "instruction_sets", lambda: HERE)


@pytest.fixture
def folder(tmp_path):
    write_samples(tmp_path, GIVEN)
    return tmp_path


def write_samples(folder, probabilities):
    texts = [[f"title {n}", ""] for n in range(len(probabilities))]
    content = {"texts": texts, "probabilities": np.asarray(probabilities).tolist()}
    (folder / "parity_samples.json").write_text(json.dumps(content))


def test_the_same_instructions_are_not_spoken_of(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_cpu_features(Fixed(1 - GIVEN), folder, HERE)


def test_others_are_named_with_what_they_change(folder):
    with pytest.warns(UserWarning) as caught:
        check_cpu_features(Fixed(GIVEN + np.array([0.01, -0.01])), folder, THERE)
    assert str(caught[0].message) == (
        f"{folder} was made for a CPU with other instructions; this one lacks avx512_vnni and has "
        "in addition fma. 0 of 4 samples have another most probable tag, and probabilities shift "
        "by 0.0100 on average, which is little enough."
    )


@pytest.mark.parametrize(
    ("recorded", "words"),
    [(["avx2", "fma", "amx_int8"], "this one lacks amx_int8."), (["avx2"], "has in addition fma.")],
)
def test_without_samples_a_warning_is_all(tmp_path, recorded, words):
    with pytest.warns(UserWarning, match=words) as caught:
        check_cpu_features(Fixed(1 - GIVEN), tmp_path, recorded)
    assert "It holds no samples to try it on" in str(caught[0].message)


def test_a_changed_tag_is_refused(folder):
    changed = GIVEN.copy()
    changed[2] = [0.49, 0.51]
    with pytest.raises(UserError, match="1 of 4 samples have another") as error:
        check_cpu_features(Fixed(changed), folder, THERE)
    assert "Export the run again on this machine." in str(error.value)


def test_one_changed_tag_of_more_than_a_hundred_is_borne(tmp_path):
    given = np.tile([0.501, 0.499], (101, 1))
    write_samples(tmp_path, given)
    changed = given.copy()
    changed[5] = [0.499, 0.501]
    with pytest.warns(UserWarning, match="1 of 101 samples"):
        check_cpu_features(Fixed(changed), tmp_path, THERE)
    changed[6] = [0.499, 0.501]
    with pytest.raises(UserError, match="2 of 101 samples"):
        check_cpu_features(Fixed(changed), tmp_path, THERE)


def test_shifted_probabilities_are_refused(folder):
    with pytest.raises(UserError, match=r"shift by 0\.0300 on average; allowed are 1% and 0\.02"):
        check_cpu_features(Fixed(GIVEN + np.array([0.03, -0.03])), folder, THERE)


@pytest.mark.parametrize(
    "content", [{}, {"texts": [], "probabilities": []},
                {"texts": [["a", ""]], "probabilities": [[1.0]]},
                {"texts": [["a", ""]], "probabilities": [[0.5, 0.5]] * 2},
                {"texts": ["abc"], "probabilities": [[0.5, 0.5]]}],
)  # fmt: skip
def test_samples_that_are_not_whole_are_told(tmp_path, content):
    (tmp_path / "parity_samples.json").write_text(json.dumps(content))
    # `load_classifier` makes one message of these.
    with pytest.raises((KeyError, ValueError)):
        check_cpu_features(Fixed(GIVEN), tmp_path, THERE)
