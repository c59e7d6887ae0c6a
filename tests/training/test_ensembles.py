import csv
import json
import shutil

import numpy as np
import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EnsembleConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.errors import UserError
from tagger.files import sha256_of, write_json
from tagger.models.ensemble import EnsembleClassifier
from tagger.oof.recorded import mean_of_members
from tagger.runs import read_calibration, read_ids, read_predictions
from tagger.training.ensembles import check_unseen, combine_runs, seen_rows
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

TAGS = ("fruit", "metal", "weather")
ITEMS = [Item("1", "apple pear", "juice"), Item("2", "iron", ""), Item("3", "rain and snow", "")]
ROLE = "members of an ensemble"
REFUSED = f"{ROLE} must not have seen the rows that the new run holds out:"
NOTHING_HELD_OUT = ("data.split.validation=0", "data.split.test=0")


def ensemble(*runs):
    return EnsembleConfig(approach="ensemble", name="ensemble", runs=list(runs))


@pytest.fixture(scope="module")
def shared(shared_runs, tmp_path_factory):
    """Linear runs, and two transformers, of one split. They are read, never changed."""
    folder = tmp_path_factory.mktemp("members") / "runs"
    shutil.copytree(shared_runs.folder, folder)
    runs = type(shared_runs)(shared_runs.tiny_config, folder)
    runs.train("one")
    runs.train("two", "seed=1")
    return runs


@pytest.fixture
def runs(shared, tmp_path):
    """A copy of them, to train more beside them."""
    shutil.copytree(shared.folder, tmp_path / "runs")
    return type(shared)(shared.tiny_config, tmp_path / "runs")


def hashes(run, *parts):
    return [row.content_hash for row in run.split_rows() if row.split in parts]


def test_runs_answer_with_the_mean_of_their_probabilities(shared):
    classifier = combine_runs(ensemble("one", "two", "words"), str(shared.folder), TAGS)
    assert isinstance(classifier, EnsembleClassifier)
    parts = [
        shared.open(name).load_classifier().predict_proba(ITEMS) for name in ("one", "two", "words")
    ]
    np.testing.assert_allclose(classifier.predict_proba(ITEMS), np.mean(parts, axis=0))


def test_runs_may_be_given_by_name_or_by_folder(shared, tmp_path):
    by_name = combine_runs(ensemble("one", "two"), str(shared.folder), TAGS)
    folders = [str(shared.folder / name) for name in ("one", "two")]
    by_folder = combine_runs(ensemble(*folders), str(tmp_path), TAGS)
    np.testing.assert_array_equal(by_name.predict_proba(ITEMS), by_folder.predict_proba(ITEMS))


def digest(run):
    return sha256_of(run.path / "meta.json")


def test_an_ensemble_is_a_run_like_any_and_does_without_its_members(runs):
    given = ("both", "decision.policy=threshold")
    run = runs.train(*given, model=ensemble("one", "words"))
    predictions = read_predictions(run.path / "predictions.csv", TAGS)
    members = [runs.open(name) for name in ("one", "words")]
    parts = [read_predictions(member.path / "predictions.csv", TAGS) for member in members]
    assert predictions.keys() == parts[0].keys()
    for row_id, row in predictions.items():
        np.testing.assert_allclose(row, (parts[0][row_id] + parts[1][row_id]) / 2, atol=2e-6)
    # It notes what its members were, and lists no rows beside theirs.
    assert run.meta.inputs == {str(member.path): digest(member) for member in members}
    assert run.split_rows() == members[0].split_rows()
    # Its promise is fitted to rows that no member was trained on.
    decision = json.loads((run.path / "decision.json").read_text())
    assert decision["fitted_on"] == {"rows": 12, "source": "12 validation rows"}
    for member in members:
        assert not set(hashes(run, "validation")) & set(hashes(member, "train"))

    before = (run.path / "meta.json").read_bytes()
    again = runs.train(*given, "if_exists=resume", model=ensemble("one", "words"))
    assert (again.path / "meta.json").read_bytes() == before
    answers = run.load_classifier().predict_proba(ITEMS)
    for member in members:
        shutil.rmtree(member.path)
    np.testing.assert_array_equal(run.load_classifier().predict_proba(ITEMS), answers)


def test_an_ensemble_may_be_made_of_ensembles(runs):
    runs.train("inner", model=ensemble("one", "two"))
    outer = runs.train("outer", model=ensemble("inner", "words"))
    parts = [runs.open(name).load_classifier().predict_proba(ITEMS) for name in ("inner", "words")]
    np.testing.assert_allclose(
        outer.load_classifier().predict_proba(ITEMS), (parts[0] + parts[1]) / 2
    )


def test_members_that_have_seen_the_test_rows_are_refused_with_how_many(runs, linear_model):
    other = runs.train("other", "data.split.seed=1", model=linear_model)
    tested, judged = (hashes(runs.open("one"), part) for part in ("test", "validation"))
    seen = set(tested) & set(hashes(other, "train", "validation"))
    trained_on = set(judged) & set(hashes(other, "train"))
    assert 0 < len(seen) < 12 and 0 < len(trained_on) < 12
    with pytest.raises(UserError, match=REFUSED) as error:
        runs.train("both", model=ensemble("one", "other", "two"))
    assert error.value.problems == (
        f"other was trained or stopped on {len(seen)} of 12 test rows",
        f"other was trained on {len(trained_on)} of 12 validation rows",
    )
    assert "data.split" in error.value.hint
    assert not (runs.folder / "both").exists()


def test_all_members_that_have_seen_test_rows_are_listed(shared):
    everything = hashes(shared.open("one"), "train", "validation", "test")
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(
            ["one", "two"], str(shared.folder), ROLE, test=everything, validation=everything
        )
    assert error.value.problems == (
        "one was trained or stopped on 48 of 60 test rows",
        "one was trained on 36 of 60 validation rows",
        "two was trained or stopped on 48 of 60 test rows",
        "two was trained on 36 of 60 validation rows",
    )


def test_rows_that_picked_the_best_epoch_were_seen(shared):
    validation = hashes(shared.open("one"), "validation")
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(["one", "two"], str(shared.folder), ROLE, test=validation[:1], validation=[])
    assert error.value.problems == (
        "one was trained or stopped on 1 of 1 test rows",
        "two was trained or stopped on 1 of 1 test rows",
    )


def test_a_decision_may_be_fitted_to_rows_that_picked_a_members_best_epoch(shared):
    # As a member's own decision is.
    run = shared.open("one")
    validation = hashes(run, "validation")
    check_unseen(["one", "two"], str(shared.folder), ROLE, test=[], validation=validation)
    one_more = [*validation, hashes(run, "train")[0]]
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(["one", "words"], str(shared.folder), ROLE, test=[], validation=one_more)
    assert error.value.problems == (
        "one was trained on 1 of 13 validation rows",
        "words was trained on 1 of 13 validation rows",
    )


@pytest.fixture
def parts(shared, toy_folder, tmp_path):
    """The toy file in two: without the members' test rows, and these alone."""
    tested = {row.id for row in shared.open("one").split_rows() if row.split == "test"}
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = tmp_path / "kept.csv", tmp_path / "moved.csv"
    for path, moved in zip(paths, (False, True), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row for row in rows if (row["id"] in tested) == moved)
    return paths


def test_rows_of_further_files_were_seen(runs, parts, linear_model):
    kept, moved = parts
    wider = runs.train("wider", f"data.path={kept}", f"data.extra=[{moved}]", model=linear_model)
    judged = hashes(runs.open("one"), "validation")
    trained_on = set(judged) & set(hashes(wider, "train", "extra"))
    with pytest.raises(UserError, match=REFUSED) as error:
        runs.train("both", model=ensemble("one", "wider"))
    assert error.value.problems == (
        "wider was trained or stopped on 12 of 12 test rows",
        f"wider was trained on {len(trained_on)} of 12 validation rows",
    )
    assert not (runs.folder / "both").exists()


def test_a_decision_is_not_fitted_to_rows_of_a_members_further_files(runs, parts, linear_model):
    kept, moved = parts
    wider = runs.train(
        "wider",
        f"data.path={kept}",
        f"data.extra=[{moved}]",
        "data.split.validation=0",
        model=linear_model,
    )
    extra = hashes(wider, "extra")
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(["one", "wider"], str(runs.folder), ROLE, test=[], validation=extra)
    assert error.value.problems == ("wider was trained on 12 of 12 validation rows",)


def test_rows_that_the_members_of_a_member_have_seen_were_seen(runs, parts, linear_model):
    kept, moved = parts
    runs.train("all", *NOTHING_HELD_OUT, model=linear_model)
    # Among the inner ensemble's own items there are none of the outer one's test rows.
    inner = runs.train(
        "inner", f"data.path={kept}", *NOTHING_HELD_OUT, model=ensemble("all", "one")
    )
    with moved.open(encoding="utf-8", newline="") as file:
        tested = {row["id"]: row["tag"] for row in csv.DictReader(file)}
    extra = [row for row in inner.split_rows() if row.split == "extra"]
    assert {row.id: row.tag for row in extra} == tested
    assert len(extra) == 12
    assert {row.content_hash for row in extra} == set(hashes(runs.open("one"), "test"))
    with pytest.raises(UserError, match=REFUSED) as error:
        runs.train("outer", model=ensemble("inner", "two"))
    assert error.value.problems == (
        "inner was trained or stopped on 12 of 12 test rows",
        "inner was trained on 12 of 12 validation rows",
    )
    assert not (runs.folder / "outer").exists()

    # However deep they are.
    kept = f"data.path={kept}"
    middle = runs.train("middle", kept, *NOTHING_HELD_OUT, model=ensemble("inner", "words"))
    assert set(hashes(middle, "extra")) == set(hashes(runs.open("one"), "test"))
    with pytest.raises(UserError, match=REFUSED) as error:
        runs.train("outer", model=ensemble("two", "middle"))
    assert "middle was trained or stopped on 12 of 12 test rows" in error.value.problems


def test_rows_that_an_ensemble_leaves_aside_were_seen_by_its_members(runs):
    run = runs.train("few", "data.split.per_tag=2", model=ensemble("one", "words"))
    trained = set(hashes(runs.open("one"), "train"))
    aside = [row for row in run.split_rows() if row.split == "extra"]
    assert len(hashes(run, "train")) == 6
    assert len(aside) == 30
    assert {row.content_hash for row in aside} == trained - set(hashes(run, "train"))


def test_what_members_have_seen_is_listed_once_and_without_their_test_rows(runs, linear_model):
    one = runs.open("one")
    seen = seen_rows(["one", "two", "words"], str(runs.folder))
    assert seen == [row for row in one.split_rows() if row.split != "test"]
    other = runs.train("other", "data.split.seed=1", model=linear_model)
    found = [row.content_hash for row in seen_rows(["one", "other"], str(runs.folder))]
    assert len(found) == len(set(found)) > 48
    assert set(found) == {
        *hashes(one, "train", "validation"), *hashes(other, "train", "validation")
    }  # fmt: skip


def test_members_own_test_rows_were_not_seen(shared):
    tested = hashes(shared.open("one"), "test")
    everyone, pair = ["one", "two", "words"], ["one", "two"]
    check_unseen(everyone, str(shared.folder), ROLE, test=tested, validation=[])
    check_unseen(everyone, str(shared.folder), ROLE, test=[], validation=tested)
    check_unseen(pair, str(shared.folder), ROLE, test=[], validation=[])


def test_without_test_rows_of_its_own_members_of_any_split_will_do(runs, linear_model):
    runs.train("other", "data.split.seed=1", model=linear_model)
    run = runs.train("both", *NOTHING_HELD_OUT, model=ensemble("one", "other"))
    assert run.finished
    assert not (run.path / "predictions.csv").exists()


def test_a_promise_is_not_fitted_to_rows_that_members_were_trained_on(runs, linear_model):
    # Of a split with other rows to validate with, though none of them is tested on.
    split = ("data.split.test=0", "data.split.validation=0.4")
    judged = set(hashes(runs.train("same", *split, model=linear_model), "validation"))
    seen = {name: judged & set(hashes(runs.open(name), "train")) for name in ("one", "words")}
    assert all(seen.values())
    with pytest.raises(UserError, match=REFUSED) as error:
        runs.train("both", *split, "decision.policy=threshold", model=ensemble("one", "words"))
    assert error.value.problems == tuple(
        f"{name} was trained on {len(rows)} of {len(judged)} validation rows"
        for name, rows in seen.items()
    )
    assert not (runs.folder / "both").exists()


def test_members_with_other_tags_are_refused_even_if_only_the_order_differs(
    runs, linear_model, tmp_path
):
    other_tags = tmp_path / "other-tags.yaml"
    entries = "".join(f"  - name: {tag}\n    definition: About {tag}.\n" for tag in TAGS[::-1])
    other_tags.write_text(f"tags:\n{entries}", encoding="utf-8")
    runs.train("backwards", f"data.tags={other_tags}", model=linear_model)
    with pytest.raises(UserError, match="backwards has other tags") as error:
        runs.train("both", model=ensemble("one", "backwards"))
    assert "backwards: weather, metal, fruit" in str(error.value)
    assert "approved: fruit, metal, weather" in str(error.value)


def test_a_member_that_does_not_exist_or_is_not_finished_is_named(runs):
    with pytest.raises(UserError, match="there is no run 'ones'") as error:
        runs.train("both", model=ensemble("ones", "two"))
    assert "Did you mean one?" in str(error.value)
    path = runs.folder / "two" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    with pytest.raises(UserError, match="two did not finish training"):
        runs.train("both", model=ensemble("one", "two"))
    assert not (runs.folder / "both").exists()


def test_a_member_whose_model_was_changed_is_refused(runs):
    model = runs.folder / "words" / "model" / "linear.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"model/linear\.safetensors has sha256"):
        combine_runs(ensemble("one", "words"), str(runs.folder), TAGS)


def test_what_members_were_trained_on_is_where_their_items_say(shared):
    # The check goes by content, not by id: what another file calls otherwise is the same row.
    run = shared.open("one")
    items = {item.id: item for item in load_labelled(run.config.data, TAGS).items}
    trained = next(row for row in run.split_rows() if row.split == "train")
    shouted = Item("new id", items[trained.id].title.upper(), items[trained.id].description)
    for held_out in (
        {"test": [shouted.content_hash], "validation": []},
        {"test": [], "validation": [shouted.content_hash]},
    ):
        with pytest.raises(UserError, match=REFUSED):
            check_unseen(["one", "two"], str(shared.folder), ROLE, **held_out)


def test_an_ensemble_of_which_a_member_was_trained_again_is_not_finished_already(
    runs, linear_model
):
    run = runs.train("all", model=ensemble("one", "words", "two"))
    runs.train("one", "seed=7", "if_exists=replace")
    with pytest.raises(UserError, match="it can't go on with these") as error:
        runs.train("all", "if_exists=resume", model=ensemble("one", "words", "two"))
    assert error.value.problems == (f"{runs.folder / 'one'} changed since the run was begun",)
    runs.train("words", "if_exists=replace", model=linear_model.model_copy(update={"C": 1.0}))
    with pytest.raises(UserError) as error:
        runs.train("all", "if_exists=resume", model=ensemble("one", "words", "two"))
    assert error.value.problems == tuple(
        f"{runs.folder / name} changed since the run was begun" for name in ("one", "words")
    )
    replaced = runs.train("all", "if_exists=replace", model=ensemble("one", "words", "two"))
    assert replaced.meta.inputs[str(runs.folder / "one")] == digest(runs.open("one"))
    assert replaced.meta.model_files != run.meta.model_files


def test_an_ensemble_that_was_killed_does_not_go_on_with_other_members(runs):
    run = runs.train("both", model=ensemble("one", "two"))
    write_json(run.path / "meta.json", run.meta.model_dump() | {"status": "running"})
    assert not runs.open("both").finished
    resume = load_config(
        TrainConfig,
        compose_config("train", [f"resume={runs.folder / 'both'}", f"runs_dir={runs.folder}"]),
    )
    runs.train("two", "seed=7", "if_exists=replace")
    with pytest.raises(UserError, match="can't go on") as error:
        train(resume)
    assert error.value.problems == (f"{runs.folder / 'two'} changed since the run was begun",)


def test_a_decision_is_fitted_to_the_mean_of_what_members_said_out_of_folds(runs):
    run = runs.train("both", "decision.folds=3", model=ensemble("rough", "words"))
    ids = read_ids(run.path / "calibration.csv")
    found, true, _ = read_calibration(run.path / "calibration.csv", TAGS)
    assert sorted(ids) == sorted(row.id for row in run.split_rows() if row.split == "train")
    said = []
    for name in ("rough", "words"):
        path = runs.folder / name / "calibration.csv"
        said.append(dict(zip(read_ids(path), read_calibration(path, TAGS)[0], strict=True)))
    expected = [(said[0][one] + said[1][one]) / 2 for one in ids]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.abs(np.array([said[0][i] - said[1][i] for i in ids])).max() > 0.05
    tags = {row.id: row.tag for row in run.split_rows()}
    assert [TAGS[at] for at in true] == [tags[one] for one in ids]
    fitted = json.loads((run.path / "decision.json").read_text(encoding="utf-8"))["fitted_on"]
    assert fitted == {"rows": 36, "source": "36 rows that all members predicted out of folds"}


def test_rows_that_an_ensemble_holds_out_do_not_fit_its_decision(runs):
    """Members that were trained on them would be refused: here they are in no part of theirs."""
    config = ensemble("rough", "words")
    items = load_labelled(runs.open("rough").config.data, TAGS).items
    kept = [item for item in items if item.id in read_ids(runs.folder / "rough/calibration.csv")]
    common, rows = mean_of_members(config, str(runs.folder), kept[:10], TAGS)
    assert common == kept[:10]
    assert rows.shape == (10, 3)
    none, empty = mean_of_members(config, str(runs.folder), [], TAGS)
    assert none == []
    assert empty.shape == (0, 3)


def test_members_without_predictions_out_of_folds_are_refused_by_name(
    runs, toy_folder, tmp_path, linear_model
):
    lines = (toy_folder / "items.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-3]), encoding="utf-8")
    other = f"data.path={tmp_path / 'fewer.csv'}"
    runs.train("fewer", "decision.folds=3", other, *NOTHING_HELD_OUT, model=linear_model)
    with pytest.raises(UserError, match="what its members said out of folds") as error:
        runs.train("mixed", "decision.folds=3", model=ensemble("rough", "one", "fewer"))
    assert error.value.problems == (
        "one was trained without decision.folds",
        "fewer was trained on other items",
    )
    assert not (runs.folder / "mixed").exists()
