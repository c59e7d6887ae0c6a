import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tagger.config.composition import compose_config, load_config
from tagger.config.saved import read_yaml, write_yaml
from tagger.config.schema import TrainConfig
from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.errors import UserError
from tagger.files import sha256_of, write_json
from tagger.runs import (
    RunFolder,
    SplitRow,
    find_run,
    open_run,
    read_predictions,
    write_predictions,
    write_splits,
)

CopyRun = Callable[..., RunFolder]


def change_meta(run: RunFolder, **changes: Any) -> None:
    write_json(run.path / "meta.json", run.meta.model_dump() | changes)


def test_a_run_is_found_by_folder_and_by_name(tiny_run: RunFolder) -> None:
    by_folder = open_run(str(tiny_run.path), "nowhere")
    by_name = open_run("tiny", str(tiny_run.path.parent))
    assert by_folder.path == by_name.path == tiny_run.path
    assert by_name.name == "tiny"
    assert by_name.finished
    assert by_name.tags == ("fruit", "metal", "weather")
    assert by_name.config.model.name == "tiny"


def test_a_missing_run_is_named_with_the_nearest(tiny_run: RunFolder) -> None:
    with pytest.raises(UserError, match="there is no run 'tinny'") as caught:
        find_run("tinny", str(tiny_run.path.parent))
    assert caught.value.hint == "Did you mean tiny?"
    with pytest.raises(UserError) as caught:
        find_run("something else", str(tiny_run.path.parent))
    assert "tagger leaderboard" in caught.value.hint


@pytest.mark.parametrize("run", ["~nobody-of-this-name/run", "", "a\0b", "meta.json", "a/b/c"])
def test_odd_names_are_refused(run: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        find_run(run, str(tmp_path))


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"is not a run folder: it has no meta\.json"):
        find_run("photos", str(tmp_path))


def test_an_unfinished_run_is_refused_with_the_way_to_resume_it(copy_run: CopyRun) -> None:
    run = copy_run()
    change_meta(run, status="running")
    with pytest.raises(UserError, match="did not finish") as caught:
        open_run(str(run.path), "")
    assert f"python train.py resume={run.path}" in str(caught.value)


def test_an_unfinished_run_needs_no_more_than_its_status(copy_run: CopyRun) -> None:
    run = copy_run()
    write_json(run.path / "meta.json", {})
    assert not RunFolder(run.path).finished


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_meta_is_named(copy_run: CopyRun, content: bytes) -> None:
    run = copy_run()
    (run.path / "meta.json").write_bytes(content)
    with pytest.raises(UserError, match=r"meta.json is damaged"):
        open_run(str(run.path), "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tags", ["fruit"]),
        ("tags", [1, 2]),
        ("model_files", {"model.safetensors": None}),
        ("data", {"name": "x", "sha256": "y", "rows": {"test": "many"}}),
        ("seed", "0"),
    ],
)
def test_all_odd_values_of_meta_are_named(copy_run: CopyRun, key: str, value: Any) -> None:
    run = copy_run()
    plain = run.meta.model_dump() | {key: value}
    del plain["seed" if key != "seed" else "tags"]
    write_json(run.path / "meta.json", plain)
    with pytest.raises(UserError, match=r"meta.json is damaged") as caught:
        open_run(str(run.path), "")
    named = {problem.partition(":")[0].partition(".")[0] for problem in caught.value.problems}
    assert named == {key, "seed" if key != "seed" else "tags"}


def test_the_model_loads_and_predicts(tiny_run: RunFolder) -> None:
    probabilities = tiny_run.load_classifier().predict_proba(
        [Item("1", "apple pear", "ripe fruit")]
    )
    assert probabilities.shape == (1, 3)
    assert tiny_run.tags[int(probabilities.argmax())] == "fruit"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_flipped_byte_of_the_model_is_noticed(copy_run: CopyRun, name: str) -> None:
    run = copy_run()
    path = run.path / "model" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="the model is damaged or was changed") as caught:
        run.load_classifier()
    (problem,) = caught.value.problems
    assert problem.startswith(f"model/{name} has sha256 ")
    assert run.meta.model_files[name] in problem


def test_all_missing_and_changed_files_are_listed(copy_run: CopyRun) -> None:
    run = copy_run()
    (run.path / "model" / "model.safetensors").unlink()
    (run.path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        run.load_classifier()
    first, second = caught.value.problems
    assert first == "model/model.safetensors is missing"
    assert second.startswith("model/tokenizer.json has sha256")


def test_a_meta_that_lists_no_file_loads_nothing(copy_run: CopyRun) -> None:
    run = copy_run()
    change_meta(run, model_files={})
    with pytest.raises(UserError, match="the model is damaged"):
        RunFolder(run.path).load_classifier()


def test_a_model_of_other_tags_is_refused(copy_run: CopyRun) -> None:
    run = copy_run()
    change_meta(run, tags=["metal", "fruit", "weather"])
    with pytest.raises(UserError, match=r"tags differ from those of meta.json"):
        RunFolder(run.path).load_classifier()


def change_config(run: RunFolder, change: Callable[[dict[str, Any]], object]) -> RunFolder:
    """Change a run's config.yaml as other versions would have written it, and open the run."""
    path = run.path / "config.yaml"
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return RunFolder(run.path)


def lose_keys(plain: dict[str, Any]) -> None:
    del plain["data"]["extra"], plain["data"]["split"]["per_tag"], plain["training"], plain["seed"]
    del plain["tracking"], plain["decision"]["ood"], plain["model"]["pooling"]


def gain_keys(plain: dict[str, Any]) -> None:
    plain["data"]["from_the_future"] = plain["new_section"] = 1
    plain["decision"]["split"] = {"a": 1}
    plain["model"]["approach"] = "diffusion"


@pytest.mark.parametrize("change", [lose_keys, gain_keys, dict.clear])
def test_a_run_of_another_version_predicts_and_has_a_name(
    copy_run: CopyRun, change: Callable[[dict[str, Any]], object]
) -> None:
    run = change_config(copy_run(), change)
    assert run.load_classifier().predict_proba([Item("1", "iron", "")]).shape == (1, 3)
    assert run.model_name == ("-" if change is dict.clear else "tiny")


def test_sections_of_an_older_run_are_read_and_what_they_lack_is_said_once(
    copy_run: CopyRun, tiny_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run()
    change_meta(run, environment={"versions": {"tagger": "0.0.7"}}, schema_version=None)
    run = change_config(run, lose_keys)
    assert run.data_config == tiny_run.config.data
    assert run.decision_config == tiny_run.config.decision
    assert run.tracking_config == tiny_run.config.tracking
    assert run.data_config.extra == []
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    assert "data.extra, data.split.per_tag" in notes[0]
    assert all("written by tagger 0.0.7 (schema 1); this is tagger" in note for note in notes)
    with pytest.raises(UserError, match="does not fit this version") as error:
        _ = run.config
    assert "training: must be given" in error.value.problems
    assert error.value.hint.startswith("It was written by tagger 0.0.7 (schema 1); this is tagger")


def test_sections_of_a_newer_run_are_read_without_what_is_not_known_here(
    copy_run: CopyRun, tiny_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run = change_config(copy_run(), gain_keys)
    assert run.data_config == tiny_run.config.data
    assert run.decision_config == tiny_run.config.decision
    said = capsys.readouterr().err
    assert "data.from_the_future: not known here" in said
    assert "decision.split: not known here" in said


def test_a_section_with_a_value_that_means_nothing_here_is_refused(copy_run: CopyRun) -> None:
    run = change_config(copy_run(), lambda plain: plain["data"].update(source="telepathy"))
    with pytest.raises(UserError, match="does not fit this version") as error:
        _ = run.data_config
    assert error.value.problems[0].startswith("data: source: found 'telepathy'")


def test_a_run_of_another_version_says_so_when_its_model_is_loaded(
    copy_run: CopyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run()
    run.load_classifier()
    assert capsys.readouterr().err == ""
    change_meta(run, schema_version=99)
    run = RunFolder(run.path)
    for _ in range(2):
        run.load_classifier()
    assert capsys.readouterr().err.count("(schema 99); this is tagger") == 1


def test_a_model_of_an_unknown_approach_names_the_version(copy_run: CopyRun) -> None:
    run = copy_run()
    settings = run.path / "model" / "tagger.json"
    content = json.loads(settings.read_text(encoding="utf-8")) | {"approach": "diffusion"}
    settings.write_text(json.dumps(content), encoding="utf-8")
    files = run.meta.model_files | {"tagger.json": sha256_of(settings)}
    change_meta(run, model_files=files, environment={"versions": {"tagger": "9.0"}})
    with pytest.raises(UserError, match="approach 'diffusion'") as error:
        RunFolder(run.path).load_classifier()
    assert "written by tagger 9.0" in error.value.hint


def test_a_run_that_was_moved_with_its_data_finds_them(
    tiny_config: Callable[..., TrainConfig], toy_folder: Path, tmp_path: Path
) -> None:
    from tagger.training.train_run import train

    project = Path(shutil.copytree(toy_folder, tmp_path / "project"))
    given = (f"data.path={project / 'items.csv'}", f"runs_dir={project / 'runs'}", "name=r")
    train(tiny_config(*given, "training.epochs=1"))
    moved = project.rename(tmp_path / "moved")
    run = RunFolder(moved / "runs" / "r")
    assert run.data_config.path == str(moved / "items.csv")
    assert run.config.data == run.data_config
    run.check_source()


def test_a_run_that_was_copied_without_its_data_says_where_it_was_made(
    copy_run: CopyRun, tiny_run: RunFolder, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.csv"
    run = change_config(copy_run(), lambda plain: plain["data"].update(path=str(gone)))
    with pytest.raises(UserError, match="made from files that are not here") as error:
        run.check_source()
    message = str(error.value)
    for part in (run.path, gone, platform.node(), tiny_run.path.resolve(), "data.path=FILE"):
        assert str(part) in message


def test_a_missing_config_is_named(copy_run: CopyRun) -> None:
    run = copy_run()
    (run.path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config.yaml is missing"):
        _ = run.config


ITEMS = [
    Item("007", "one", "", tag="fruit"),
    Item('a,"b"', "two", "", tag="metal"),
    Item("c\rd\ne", "three", "", tag="weather"),
    Item("日本", "four", "", tag="fruit"),
]


def test_splits_list_what_else_was_seen_last(tiny_run: RunFolder, tmp_path: Path) -> None:
    further = [Item("x1", "five", "", tag="metal"), Item("x2", "six", "", tag="fruit")]
    known = [
        SplitRow("m1", "0" * 64, "train", "weather"),
        SplitRow("m2", "1" * 64, "validation", "fruit"),
        # These are among the items, or the further ones, whatever the members call them.
        SplitRow("other id", ITEMS[2].content_hash, "train", "weather"),
        SplitRow("other id", ITEMS[1].content_hash, "validation", "metal"),
        SplitRow("other id", further[0].content_hash, "extra", "metal"),
    ]
    write_splits(tmp_path / "splits.csv", ITEMS, Split([3, 0], [1], [2]), further, known)
    shutil.copy(tiny_run.path / "meta.json", tmp_path)
    rows = RunFolder(tmp_path).split_rows()
    assert rows[0] == SplitRow("日本", ITEMS[3].content_hash, "train", "fruit")
    assert [(row.id, row.split) for row in rows[:4]] == [
        ("日本", "train"),
        ("007", "train"),
        ('a,"b"', "validation"),
        ("c\rd\ne", "test"),
    ]
    assert rows[4:] == [
        SplitRow("x1", further[0].content_hash, "extra", "metal"),
        SplitRow("x2", further[1].content_hash, "extra", "fruit"),
        SplitRow("m1", "0" * 64, "extra", "weather"),
        SplitRow("m2", "1" * 64, "extra", "fruit"),
    ]


def test_splits_with_other_columns_or_without_a_file_are_refused(copy_run: CopyRun) -> None:
    run = copy_run()
    path = run.path / "splits.csv"
    for damage in (lambda: path.write_text("id,split\n1,train\n"), path.unlink):
        damage()
        with pytest.raises(UserError, match=r"splits.csv cannot be read"):
            run.split_rows()


def test_both_kinds_of_probabilities_read_back_as_the_model_gave_them(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    raw, corrected = np.array([[0.1, 0.9]]), np.array([[0.4, 0.6]])
    write_predictions(path, ["x"], ("a", "b"), raw, corrected)
    assert path.read_text().splitlines()[0] == "id,raw:a,raw:b,corrected:a,corrected:b"
    np.testing.assert_array_equal(read_predictions(path, ("a", "b"))["x"], [0.1, 0.9])


def test_predictions_read_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    rows = np.array([[0.25, 0.75], [1.0, 0.0], [0.1234567, 0.8765433], [0.5, 0.5]])
    write_predictions(path, [item.id for item in ITEMS], ("a", "b, c"), rows)
    found = read_predictions(path, ("a", "b, c"))
    assert list(found) == [item.id for item in ITEMS]
    np.testing.assert_allclose(list(found.values()), rows, atol=1e-6)


def test_a_row_too_few_is_our_own_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_predictions(tmp_path / "p.csv", ["1", "2"], ("a", "b"), np.array([[0.5, 0.5]]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns"),
        ("id,b,a\n1,0.5,0.5\n", "columns"),
        ("id,a,b\n1,0.5\n", "line 2 has 2 of 3 fields"),
        ("id,a,b\n1,0.5,0.5,0\n", "line 2 has 4 of 3 fields"),
        ("id,a,b\n1,0.5,much\n", "much"),
    ],
)
def test_damaged_predictions_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path, ("a", "b"))
    assert str(path) in str(caught.value)


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "predictions.csv", ("a", "b"))


def test_meta_is_json_for_others_to_read(tiny_run: RunFolder) -> None:
    meta = json.loads((tiny_run.path / "meta.json").read_text(encoding="utf-8"))
    assert meta == tiny_run.meta.model_dump()
    model = tiny_run.path / "model"
    files = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
    assert set(meta["model_files"]) == files


def test_a_run_says_how_its_frozen_encoder_was_named(copy_run: CopyRun) -> None:
    run = copy_run()
    assert run.frozen_config is None
    frozen = load_config(TrainConfig, compose_config("train", ["model=frozen"])).model
    saved = read_yaml(run.path / "config.yaml")
    # As an older version wrote it: a key that is not there is taken from configs/.
    model = {key: value for key, value in frozen.model_dump().items() if key != "balanced"}
    write_yaml(saved | {"model": model}, run.path / "config.yaml")
    assert RunFolder(run.path).frozen_config == frozen
