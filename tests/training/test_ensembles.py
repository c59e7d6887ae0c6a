import csv
import json
import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EnsembleConfig, LinearConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.errors import UserError
from tagger.files import sha256_of, write_json
from tagger.models.ensemble import EnsembleClassifier
from tagger.oof.recorded import mean_of_members
from tagger.runs import RunFolder, read_calibration, read_ids, read_predictions
from tagger.training.ensembles import check_unseen, combine_runs, seen_rows
from tagger.training.train_run import train

TAGS = ("fruit", "metal", "weather")
ITEMS = [Item("1", "apple pear", "juice"), Item("2", "iron", ""), Item("3", "rain and snow", "")]
ROLE = "members of an ensemble"
REFUSED = f"{ROLE} must not have seen the rows that the new run holds out:"
NOTHING_HELD_OUT = ("data.split.validation=0", "data.split.test=0")
LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=10.0, balanced=False
)


def ensemble(*runs):
    return EnsembleConfig(approach="ensemble", name="ensemble", runs=list(runs))


class Bench:
    """Trains members and ensembles below one folder."""

    def __init__(self, tiny_config, folder):
        self.tiny_config, self.folder = tiny_config, folder

    def transformer(self, name, *overrides):
        config = self.tiny_config(
            f"name={name}", f"runs_dir={self.folder}", "training.epochs=2", *overrides
        )
        return RunFolder(train(config))

    def of(self, model, name, *overrides):
        config = self.tiny_config(f"name={name}", f"runs_dir={self.folder}", *overrides)
        return RunFolder(train(config.model_copy(update={"model": model})))


@pytest.fixture(scope="module")
def shared(tiny_config, tmp_path_factory):
    """Members of one split: two transformers and a linear model. They are read, never changed."""
    bench = Bench(tiny_config, tmp_path_factory.mktemp("runs"))
    bench.transformer("one")
    bench.transformer("two", "seed=1")
    bench.of(LINEAR, "words")
    return bench


@pytest.fixture
def bench(shared, tiny_config, tmp_path):
    """A copy of the shared members, to train more beside them."""
    shutil.copytree(shared.folder, tmp_path / "runs")
    return Bench(tiny_config, tmp_path / "runs")


def hashes(run, *parts):
    return [row.content_hash for row in run.split_rows() if row.split in parts]


def member(bench, name):
    return RunFolder(bench.folder / name)


def test_runs_answer_with_the_mean_of_their_probabilities(shared):
    classifier = combine_runs(ensemble("one", "two", "words"), str(shared.folder), TAGS)
    assert isinstance(classifier, EnsembleClassifier)
    parts = [
        member(shared, name).load_classifier().predict_proba(ITEMS)
        for name in ("one", "two", "words")
    ]
    np.testing.assert_allclose(classifier.predict_proba(ITEMS), np.mean(parts, axis=0))


def test_runs_may_be_given_by_name_or_by_folder(shared, tmp_path):
    by_name = combine_runs(ensemble("one", "two"), str(shared.folder), TAGS)
    folders = [str(shared.folder / name) for name in ("one", "two")]
    by_folder = combine_runs(ensemble(*folders), str(tmp_path), TAGS)
    np.testing.assert_array_equal(by_name.predict_proba(ITEMS), by_folder.predict_proba(ITEMS))


def test_an_ensemble_is_a_run_like_any(bench):
    run = bench.of(ensemble("one", "two", "words"), "all")
    predictions = read_predictions(run.path / "predictions.csv", TAGS)
    parts = [
        read_predictions(bench.folder / name / "predictions.csv", TAGS)
        for name in ("one", "two", "words")
    ]
    assert predictions.keys() == parts[0].keys()
    for row_id, row in predictions.items():
        np.testing.assert_allclose(
            row, np.mean([part[row_id] for part in parts], axis=0), atol=2e-6
        )


def test_an_ensemble_does_without_the_runs_that_it_was_made_of(bench):
    run = bench.of(ensemble("one", "words"), "both")
    before = run.load_classifier().predict_proba(ITEMS)
    for name in ("one", "words"):
        shutil.rmtree(bench.folder / name)
    np.testing.assert_array_equal(run.load_classifier().predict_proba(ITEMS), before)


def test_an_ensemble_may_be_made_of_ensembles(bench):
    bench.of(ensemble("one", "two"), "inner")
    outer = bench.of(ensemble("inner", "words"), "outer")
    parts = [
        member(bench, name).load_classifier().predict_proba(ITEMS) for name in ("inner", "words")
    ]
    np.testing.assert_allclose(
        outer.load_classifier().predict_proba(ITEMS), (parts[0] + parts[1]) / 2
    )


def test_members_that_have_seen_the_test_rows_are_refused_with_how_many(bench):
    other = bench.of(LINEAR, "other", "data.split.seed=1")
    tested, judged = (hashes(member(bench, "one"), part) for part in ("test", "validation"))
    seen = set(tested) & set(hashes(other, "train", "validation"))
    trained_on = set(judged) & set(hashes(other, "train"))
    assert 0 < len(seen) < 12 and 0 < len(trained_on) < 12
    with pytest.raises(UserError, match=REFUSED) as error:
        bench.of(ensemble("one", "other", "two"), "both")
    assert error.value.problems == (
        f"other was trained or stopped on {len(seen)} of 12 test rows",
        f"other was trained on {len(trained_on)} of 12 validation rows",
    )
    assert "data.split" in error.value.hint
    assert not (bench.folder / "both").exists()


def test_all_members_that_have_seen_test_rows_are_listed(shared):
    everything = hashes(member(shared, "one"), "train", "validation", "test")
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
    validation = hashes(member(shared, "one"), "validation")
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(["one", "two"], str(shared.folder), ROLE, test=validation[:1], validation=[])
    assert error.value.problems == (
        "one was trained or stopped on 1 of 1 test rows",
        "two was trained or stopped on 1 of 1 test rows",
    )


def test_a_decision_may_be_fitted_to_rows_that_picked_a_members_best_epoch(shared):
    # As a member's own decision is.
    run = member(shared, "one")
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
    tested = {row.id for row in member(shared, "one").split_rows() if row.split == "test"}
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = tmp_path / "kept.csv", tmp_path / "moved.csv"
    for path, moved in zip(paths, (False, True), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row for row in rows if (row["id"] in tested) == moved)
    return paths


def test_rows_of_further_files_were_seen(bench, parts):
    kept, moved = parts
    wider = bench.of(LINEAR, "wider", f"data.path={kept}", f"data.extra=[{moved}]")
    judged = hashes(member(bench, "one"), "validation")
    trained_on = set(judged) & set(hashes(wider, "train", "extra"))
    with pytest.raises(UserError, match=REFUSED) as error:
        bench.of(ensemble("one", "wider"), "both")
    assert error.value.problems == (
        "wider was trained or stopped on 12 of 12 test rows",
        f"wider was trained on {len(trained_on)} of 12 validation rows",
    )
    assert not (bench.folder / "both").exists()


def test_a_decision_is_not_fitted_to_rows_of_a_members_further_files(bench, parts):
    kept, moved = parts
    wider = bench.of(
        LINEAR, "wider", f"data.path={kept}", f"data.extra=[{moved}]", "data.split.validation=0"
    )
    extra = hashes(wider, "extra")
    with pytest.raises(UserError, match=REFUSED) as error:
        check_unseen(["one", "wider"], str(bench.folder), ROLE, test=[], validation=extra)
    assert error.value.problems == ("wider was trained on 12 of 12 validation rows",)


def test_rows_that_the_members_of_a_member_have_seen_were_seen(bench, parts):
    kept, moved = parts
    bench.of(LINEAR, "all", *NOTHING_HELD_OUT)
    # Among the inner ensemble's own items there are none of the outer one's test rows.
    inner = bench.of(ensemble("all", "one"), "inner", f"data.path={kept}", *NOTHING_HELD_OUT)
    with moved.open(encoding="utf-8", newline="") as file:
        tested = {row["id"]: row["tag"] for row in csv.DictReader(file)}
    extra = [row for row in inner.split_rows() if row.split == "extra"]
    assert {row.id: row.tag for row in extra} == tested
    assert len(extra) == 12
    assert {row.content_hash for row in extra} == set(hashes(member(bench, "one"), "test"))
    with pytest.raises(UserError, match=REFUSED) as error:
        bench.of(ensemble("inner", "two"), "outer")
    assert error.value.problems == (
        "inner was trained or stopped on 12 of 12 test rows",
        "inner was trained on 12 of 12 validation rows",
    )
    assert not (bench.folder / "outer").exists()


def test_ensembles_are_seen_through_however_deep_they_are(bench, parts):
    kept = f"data.path={parts[0]}"
    bench.of(LINEAR, "all", *NOTHING_HELD_OUT)
    bench.of(ensemble("all", "one"), "inner", kept, *NOTHING_HELD_OUT)
    middle = bench.of(ensemble("inner", "words"), "middle", kept, *NOTHING_HELD_OUT)
    assert set(hashes(middle, "extra")) == set(hashes(member(bench, "one"), "test"))
    with pytest.raises(UserError, match=REFUSED) as error:
        bench.of(ensemble("two", "middle"), "outer")
    assert "middle was trained or stopped on 12 of 12 test rows" in error.value.problems


def test_rows_that_an_ensemble_leaves_aside_were_seen_by_its_members(bench):
    run = bench.of(ensemble("one", "words"), "few", "data.split.per_tag=2")
    trained = set(hashes(member(bench, "one"), "train"))
    aside = [row for row in run.split_rows() if row.split == "extra"]
    assert len(hashes(run, "train")) == 6
    assert len(aside) == 30
    assert {row.content_hash for row in aside} == trained - set(hashes(run, "train"))


def test_an_ensemble_of_the_rows_of_its_members_lists_no_further_ones(bench):
    run = bench.of(ensemble("one", "words"), "both")
    assert run.split_rows() == member(bench, "one").split_rows()


def test_what_members_have_seen_is_listed_once_and_without_their_test_rows(bench):
    one = member(bench, "one")
    seen = seen_rows(["one", "two", "words"], str(bench.folder))
    assert seen == [row for row in one.split_rows() if row.split != "test"]
    other = bench.of(LINEAR, "other", "data.split.seed=1")
    found = [row.content_hash for row in seen_rows(["one", "other"], str(bench.folder))]
    assert len(found) == len(set(found)) > 48
    assert set(found) == {
        *hashes(one, "train", "validation"), *hashes(other, "train", "validation")
    }  # fmt: skip


def test_members_own_test_rows_were_not_seen(shared):
    tested = hashes(member(shared, "one"), "test")
    everyone, pair = ["one", "two", "words"], ["one", "two"]
    check_unseen(everyone, str(shared.folder), ROLE, test=tested, validation=[])
    check_unseen(everyone, str(shared.folder), ROLE, test=[], validation=tested)
    check_unseen(pair, str(shared.folder), ROLE, test=[], validation=[])


def test_without_test_rows_of_its_own_members_of_any_split_will_do(bench):
    bench.of(LINEAR, "other", "data.split.seed=1")
    run = bench.of(ensemble("one", "other"), "both", *NOTHING_HELD_OUT)
    assert run.finished
    assert not (run.path / "predictions.csv").exists()


def test_a_promise_is_not_fitted_to_rows_that_members_were_trained_on(bench):
    # Of a split with other rows to validate with, though none of them is tested on.
    split = ("data.split.test=0", "data.split.validation=0.4")
    judged = set(hashes(bench.of(LINEAR, "same", *split), "validation"))
    seen = {name: judged & set(hashes(member(bench, name), "train")) for name in ("one", "words")}
    assert all(seen.values())
    with pytest.raises(UserError, match=REFUSED) as error:
        bench.of(ensemble("one", "words"), "both", *split, "decision.policy=threshold")
    assert error.value.problems == tuple(
        f"{name} was trained on {len(rows)} of {len(judged)} validation rows"
        for name, rows in seen.items()
    )
    assert not (bench.folder / "both").exists()


def test_a_promise_of_an_ensemble_is_fitted_to_rows_that_no_member_was_trained_on(bench):
    run = bench.of(ensemble("one", "words"), "both", "decision.policy=threshold")
    decision = json.loads((run.path / "decision.json").read_text())
    assert decision["fitted_on"] == {"rows": 12, "source": "12 validation rows"}
    judged = set(hashes(run, "validation"))
    for name in ("one", "words"):
        assert not judged & set(hashes(member(bench, name), "train"))


@pytest.fixture
def other_tags(tmp_path):
    """The toy tags in another order."""
    path = tmp_path / "other-tags.yaml"
    entries = "".join(f"  - name: {tag}\n    definition: About {tag}.\n" for tag in TAGS[::-1])
    path.write_text(f"tags:\n{entries}", encoding="utf-8")
    return path


def test_members_with_other_tags_are_refused_even_if_only_the_order_differs(bench, other_tags):
    bench.of(LINEAR, "backwards", f"data.tags={other_tags}")
    with pytest.raises(UserError, match="backwards has other tags") as error:
        bench.of(ensemble("one", "backwards"), "both")
    assert "backwards: weather, metal, fruit" in str(error.value)
    assert "approved: fruit, metal, weather" in str(error.value)


def test_a_member_that_does_not_exist_or_is_not_finished_is_named(bench):
    with pytest.raises(UserError, match="there is no run 'ones'") as error:
        bench.of(ensemble("ones", "two"), "both")
    assert "Did you mean one?" in str(error.value)
    path = bench.folder / "two" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    with pytest.raises(UserError, match="two did not finish training"):
        bench.of(ensemble("one", "two"), "both")
    assert not (bench.folder / "both").exists()


def test_a_member_whose_model_was_changed_is_refused(bench):
    model = bench.folder / "words" / "model" / "linear.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"model/linear\.safetensors has sha256"):
        combine_runs(ensemble("one", "words"), str(bench.folder), TAGS)


def test_one_run_is_no_ensemble():
    for given in ([], ["one"]):
        with pytest.raises(ValidationError, match="at least 2 items"):
            ensemble(*given)


def test_what_members_were_trained_on_is_where_their_items_say(shared):
    # The check goes by content, not by id: what another file calls otherwise is the same row.
    run = member(shared, "one")
    items = {item.id: item for item in load_labelled(run.config.data, TAGS).items}
    trained = next(row for row in run.split_rows() if row.split == "train")
    shouted = Item("new id", items[trained.id].title.upper(), items[trained.id].description)
    for held_out in (
        {"test": [shouted.content_hash], "validation": []},
        {"test": [], "validation": [shouted.content_hash]},
    ):
        with pytest.raises(UserError, match=REFUSED):
            check_unseen(["one", "two"], str(shared.folder), ROLE, **held_out)


def digest(run):
    return sha256_of(run.path / "meta.json")


def test_an_ensemble_notes_what_its_members_were(bench):
    run = bench.of(ensemble("one", "words"), "both")
    assert run.meta.inputs == {
        str(bench.folder / name): digest(member(bench, name)) for name in ("one", "words")
    }
    before = (run.path / "meta.json").read_bytes()
    again = bench.of(ensemble("one", "words"), "both", "if_exists=resume")
    assert (again.path / "meta.json").read_bytes() == before


def test_an_ensemble_of_which_a_member_was_trained_again_is_not_finished_already(bench):
    run = bench.of(ensemble("one", "words", "two"), "all")
    bench.transformer("one", "seed=7", "if_exists=replace")
    with pytest.raises(UserError, match="it can't go on with these") as error:
        bench.of(ensemble("one", "words", "two"), "all", "if_exists=resume")
    assert error.value.problems == (f"{bench.folder / 'one'} changed since the run was begun",)
    bench.of(LINEAR.model_copy(update={"C": 1.0}), "words", "if_exists=replace")
    with pytest.raises(UserError) as error:
        bench.of(ensemble("one", "words", "two"), "all", "if_exists=resume")
    assert error.value.problems == tuple(
        f"{bench.folder / name} changed since the run was begun" for name in ("one", "words")
    )
    replaced = bench.of(ensemble("one", "words", "two"), "all", "if_exists=replace")
    assert replaced.meta.inputs[str(bench.folder / "one")] == digest(member(bench, "one"))
    assert replaced.meta.model_files != run.meta.model_files


def test_an_ensemble_that_was_killed_does_not_go_on_with_other_members(bench):
    run = bench.of(ensemble("one", "two"), "both")
    write_json(run.path / "meta.json", run.meta.model_dump() | {"status": "running"})
    assert not member(bench, "both").finished
    resume = load_config(
        TrainConfig,
        compose_config("train", [f"resume={bench.folder / 'both'}", f"runs_dir={bench.folder}"]),
    )
    bench.transformer("two", "seed=7", "if_exists=replace")
    with pytest.raises(UserError, match="can't go on") as error:
        train(resume)
    assert error.value.problems == (f"{bench.folder / 'two'} changed since the run was begun",)


@pytest.fixture
def folded(bench):
    """Two members that keep what they said of their training rows, out of folds."""
    for name, model in (("rough", {"C": 0.1}), ("close", {"C": 20.0})):
        bench.of(LINEAR.model_copy(update=model), name, "decision.folds=3")
    return bench


def test_a_decision_is_fitted_to_the_mean_of_what_members_said_out_of_folds(folded):
    run = folded.of(ensemble("rough", "close"), "both", "decision.folds=3")
    ids = read_ids(run.path / "calibration.csv")
    found, true, _ = read_calibration(run.path / "calibration.csv", TAGS)
    assert sorted(ids) == sorted(row.id for row in run.split_rows() if row.split == "train")
    said = []
    for name in ("rough", "close"):
        path = folded.folder / name / "calibration.csv"
        said.append(dict(zip(read_ids(path), read_calibration(path, TAGS)[0], strict=True)))
    expected = [(said[0][one] + said[1][one]) / 2 for one in ids]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.abs(np.array([said[0][i] - said[1][i] for i in ids])).max() > 0.05
    tags = {row.id: row.tag for row in run.split_rows()}
    assert [TAGS[at] for at in true] == [tags[one] for one in ids]
    fitted = json.loads((run.path / "decision.json").read_text(encoding="utf-8"))["fitted_on"]
    assert fitted == {"rows": 36, "source": "36 rows that all members predicted out of folds"}


def test_rows_that_an_ensemble_holds_out_do_not_fit_its_decision(folded):
    """Members that were trained on them would be refused: here they are in no part of theirs."""
    config = ensemble("rough", "close")
    items = load_labelled(member(folded, "rough").config.data, TAGS).items
    kept = [item for item in items if item.id in read_ids(folded.folder / "rough/calibration.csv")]
    common, rows = mean_of_members(config, str(folded.folder), kept[:10], TAGS)
    assert common == kept[:10]
    assert rows.shape == (10, 3)
    none, empty = mean_of_members(config, str(folded.folder), [], TAGS)
    assert none == []
    assert empty.shape == (0, 3)


def test_members_without_predictions_out_of_folds_are_refused_by_name(folded, toy_folder, tmp_path):
    lines = (toy_folder / "items.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-3]), encoding="utf-8")
    other = f"data.path={tmp_path / 'fewer.csv'}"
    folded.of(LINEAR, "fewer", "decision.folds=3", other, *NOTHING_HELD_OUT)
    with pytest.raises(UserError, match="what its members said out of folds") as error:
        folded.of(ensemble("rough", "one", "fewer"), "mixed", "decision.folds=3")
    assert error.value.problems == (
        "one was trained without decision.folds",
        "fewer was trained on other items",
    )
    assert not (folded.folder / "mixed").exists()
