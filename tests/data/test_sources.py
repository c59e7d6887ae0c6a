import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tagger.config.schema import DataConfig
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.sources import (
    data_sha256,
    iter_unlabelled,
    load_extra,
    load_labelled,
    open_file,
    open_table,
    read_columns,
    read_labelled,
    scan_unlabelled,
)
from tagger.errors import UserError
from tagger.files import sha256_of

Write = Callable[[str, str | bytes], Path]
MakeData = Callable[..., DataConfig]

CSV = b"""id,created_on,title,description,tag
007,2020-02-20 06:43:18,NA,"One, two.",red
8,2021-03-01,B,,green
"""
ITEMS = [
    Item("007", "NA", "One, two.", datetime(2020, 2, 20, 6, 43, 18), "red"),
    Item("8", "B", "", datetime(2021, 3, 1), "green"),
]
TAGS = ("red", "green")


# Files


def test_file_is_loaded(write: Write, make_data: MakeData) -> None:
    assert load_labelled(make_data(path=str(write("a.csv", CSV))), TAGS).items == ITEMS


def test_columns_are_renamed(write: Write, make_data: MakeData) -> None:
    path = write("a.csv", CSV.replace(b",tag\n", b",label\n"))
    assert load_labelled(make_data(path=str(path), columns={"tag": "label"}), TAGS).items == ITEMS


def test_structure_and_content_problems_come_in_one_message(
    write: Write, make_data: MakeData
) -> None:
    path = write("a.csv", CSV + b"9,2021-03-01,C,D,blue\n10,x\n8,2021-03-01,E,F,red\n")
    with pytest.raises(UserError, match=r"a\.csv cannot be used as labelled data") as caught:
        load_labelled(make_data(path=str(path)), TAGS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "row 3 (line 4)",
        "row 4 (line 5)",
        "row 5 (line 6)",
    ]


def test_embedded_path_is_found_from_anywhere(
    make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is none of the 2 tags"):
        load_labelled(make_data(path="data/gold.csv"), ("no", "such"))
    with pytest.raises(UserError, match="is none of the 2 tags"):
        load_extra(make_data(extra=["data/gold.csv"]), ("no", "such"))


# Further files, for training alone


def test_no_extra_file_gives_no_extra_items(make_data: MakeData) -> None:
    assert load_extra(make_data(), TAGS) == []


def test_rows_of_all_extra_files_come_one_file_after_the_other(
    write: Write, make_data: MakeData
) -> None:
    more = write("more.jsonl", '{"id": "8", "title": "C", "tag": "red"}\n')
    files = [str(more), str(write("a.csv", CSV))]
    # Neither a date nor both texts are needed, and an id may be that of another file's row.
    assert load_extra(make_data(extra=files), TAGS) == [Item("8", "C", "", None, "red"), *ITEMS]
    assert load_extra(make_data(extra=files[::-1]), TAGS)[:2] == ITEMS


def test_extra_files_may_have_the_columns_of_the_source(write: Write, make_data: MakeData) -> None:
    columns = {"tag": "kind"}
    for content in (CSV, CSV.replace(b",tag\n", b",kind\n")):
        data = make_data(extra=[str(write("a.csv", content))], columns=columns)
        assert load_extra(data, TAGS) == ITEMS


def test_problems_of_an_extra_file_are_listed_with_its_name(
    write: Write, make_data: MakeData
) -> None:
    files = [
        str(write("good.csv", CSV)),
        str(write("bad.csv", "id,title,tag\n1,a,red\n2,b,blue\n")),
    ]
    with pytest.raises(UserError, match=r"bad\.csv cannot be used as labelled data") as caught:
        load_extra(make_data(extra=files), TAGS)
    assert "good.csv" not in str(caught.value)
    assert len(caught.value.problems) == 1


# Further files, whose rows are the source's own


KIND = "id,title,kind,note\n8,C,red,n\n11,D,green,\n"


def test_rows_of_more_files_are_the_sources_own_and_say_where_they_come_from(
    write: Write, make_data: MakeData
) -> None:
    first, second = (
        write("a.csv", CSV),
        write("b.csv.gz", gzip.compress(b"id,title,tag\n9,E,red\n")),
    )
    found = load_labelled(make_data(path=str(first), more=[str(second)]), TAGS)
    assert found.items == [
        *(replace(item, source="toy") for item in ITEMS),
        Item("9", "E", "", None, "red", "b"),
    ]
    assert found.parts is None
    assert data_sha256(found.items) == data_sha256([replace(one, source="") for one in found.items])


def test_an_id_of_several_files_is_told_apart_by_the_files_name(
    write: Write, make_data: MakeData, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    files = [str(write("toy.csv", KIND)), str(write("other/toy.csv", KIND + "12,F,red,\n"))]
    data = make_data(path=str(write("a.csv", CSV)), more=files, columns={"tag": "kind"})
    # Columns that are given are those of the first; others may be called as our fields are.
    write("a.csv", CSV.replace(b",tag\n", b",kind\n"))
    found = load_labelled(data, TAGS)
    assert [(item.id, item.source) for item in found.items] == [
        ("007", "toy"), ("8", "toy"),
        ("toy~2:8", "toy~2"), ("toy~2:11", "toy~2"),
        ("toy~3:8", "toy~3"), ("toy~3:11", "toy~3"), ("toy~3:12", "toy~3"),
    ]  # fmt: skip
    assert found.columns["tag"] == "kind"


def test_more_files_may_have_columns_of_their_own_and_give_slices(
    write: Write, make_data: MakeData
) -> None:
    first = write("a.csv", CSV.replace(b",tag\n", b",label,note\n").replace(b"\n8", b",m\n8"))
    first.write_bytes(first.read_bytes().rstrip(b"\n") + b",\n")
    data = make_data(path=str(first), more=[str(write("b.csv", KIND.replace("kind", "tag")))])
    data = data.model_copy(update={"columns": {"tag": "label"}})
    assert [item.tag for item in load_labelled(data, TAGS).items] == ["red", "green"] * 2
    assert read_columns(data, ["note"]) == {"note": {"007": "m", "b:8": "n"}}


def test_further_rows_are_divided_and_those_of_the_test_file_come_last(
    write: Write, make_data: MakeData, make_split: Any
) -> None:
    paths = [str(write(f"{name}.csv", LABELLED.replace("number", name))) for name in "abc"]
    data = make_data(path=paths[0], more=[paths[1]], test_path=paths[2], tags="auto")
    found = load_labelled(data)
    assert found.parts == ["train"] * 16 + ["test"] * 8
    assert [found.items[at].id for at in (0, 8, 16)] == ["1", "b:1", "test:1"]
    assert [found.items[at].source for at in (0, 8, 16)] == ["toy", "b", "toy"]
    by_column = data.model_copy(update={"test_path": None, "split": make_split(column="label")})
    for path in paths[:2]:
        Path(path).write_text(Path(path).read_text().replace(",a", ",test").replace(",b", ",dev"))
    assert load_labelled(by_column).parts == ["test", "validation"] * 8


def test_more_files_go_with_a_dataset_of_the_hub_and_with_a_download(
    write: Write, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, more = write("a.csv", CSV), [str(write("b.csv", "id,title,tag\n9,E,red\n"))]
    found = [*(replace(item, source="toy") for item in ITEMS), Item("9", "E", "", None, "red", "b")]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: to_dataset(ITEMS, TAGS))
    assert load_labelled(hub_data(make_data).model_copy(update={"more": more}), TAGS).items == found
    monkeypatch.setattr("tagger.data.download.download", lambda _: path)
    pinned = {"source": "download", "path": None, "url": "https://a.b/c", "sha256": sha256_of(path)}
    assert load_labelled(make_data(**pinned, more=more), TAGS).items == found
    with pytest.raises(UserError, match=r"a\.csv holds what data\.url holds"):
        load_labelled(make_data(**pinned, more=[str(path)]), TAGS)


def test_a_file_that_is_given_twice_is_one_error(write: Write, make_data: MakeData) -> None:
    path, copy, other = write("a.csv", CSV), write("copy.csv", CSV), write("b.csv", LABELLED)
    more = [str(copy), str(other)]
    with pytest.raises(UserError, match="given twice") as caught:
        load_labelled(make_data(path=str(path), more=more, extra=[str(other)]), TAGS)
    assert list(caught.value.problems) == [
        f"data.more: {copy} holds what data.path ({path}) holds",
        f"data.extra: {other} holds what data.more ({other}) holds",
    ]
    assert "Name each file once" in caught.value.hint


def test_a_mistake_in_a_further_file_is_told_with_its_name(
    write: Write, make_data: MakeData, tmp_path: Path
) -> None:
    path = str(write("a.csv", CSV))
    with pytest.raises(UserError, match=r"gone\.csv"):
        load_labelled(make_data(path=path, more=[str(tmp_path / "gone.csv")]), TAGS)
    with pytest.raises(UserError, match=r"b\.csv cannot be read as it is"):
        load_labelled(make_data(path=path, more=[str(write("b.csv", KIND))]), ("red", "green"))


# The hash of the data


def test_hash_covers_every_field_and_the_order() -> None:
    hashes = {data_sha256(ITEMS), data_sha256(ITEMS[::-1]), data_sha256(ITEMS[:1])}
    for change in (
        {"id": "7"},
        {"title": "N"},
        {"description": "x"},
        {"tag": "green"},
        {"created_on": None},
        {"weight": 2.0},
    ):
        hashes.add(data_sha256([replace(ITEMS[0], **change), ITEMS[1]]))  # type: ignore[arg-type]
    assert len(hashes) == 9
    assert data_sha256(ITEMS) == data_sha256(list(ITEMS))


def test_hash_does_not_confuse_neighbouring_fields() -> None:
    assert data_sha256([Item("1", "ab", "c")]) != data_sha256([Item("1", "a", "bc")])


# Unlabelled files


def test_unlabelled_file_is_scanned_and_read(write: Write) -> None:
    path = write("a.jsonl", '{"id": 7, "title": "A", "tag": 3}\n{"id": 7, "description": "B"}\n')
    assert scan_unlabelled(path) == 2
    assert list(iter_unlabelled(path)) == [Item("7", "A", ""), Item("7", "", "B")]


def test_unlabelled_rows_without_a_text_are_listed_after_the_others(write: Write) -> None:
    path = write("a.csv", "id,title\n1,a\n,b\n3,\n4,d,e\n5,e\n")
    items = []
    with pytest.raises(UserError) as caught:
        items += [item.id for item in iter_unlabelled(path)]
    assert len(caught.value.problems) == 2
    with pytest.raises(UserError):
        scan_unlabelled(path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_an_empty_file_is_refused(write: Write, name: str) -> None:
    with pytest.raises(UserError, match=r"empty|not a readable"):
        scan_unlabelled(write(name, ""))


# datasets


def to_dataset(items: Sequence[Item], tags: Sequence[str]) -> Any:
    """Return items as a `datasets.Dataset` whose labels are numbers with names."""
    from datasets import ClassLabel, Dataset, Features, Value

    text = {name: Value("string") for name in ("id", "title", "description")}
    features = {**text, "created_on": Value("timestamp[us]"), "tag": ClassLabel(names=[*tags])}
    columns = {
        field: [getattr(item, field) for item in items] for field in (*text, "created_on", "tag")
    }
    return Dataset.from_dict(columns, features=Features(features))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[Any, ...]]]:
    """Make `datasets.load_dataset` return (or raise) what is given; return the calls made."""
    import datasets

    def serve(outcome: Any) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def load_dataset(name: str, subset: str | None, *, split: str, revision: str | None) -> Any:
            calls.append((name, subset, split, revision))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return serve


def hub_data(make_data: MakeData, **changes: Any) -> DataConfig:
    return make_data(source="hub", path=None, hub_id="org/name", hub_revision="abc", **changes)


def test_hub_labels_become_names_and_missing_ids_row_numbers(
    hub: Callable[..., list[tuple[Any, ...]]], make_data: MakeData
) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["green", "red"])})
    calls = hub(Dataset.from_dict({"text": ["A", "B"], "label": [1, 0]}, features=features))
    data = hub_data(make_data, columns={"title": "text", "tag": "label"})
    assert load_labelled(data, TAGS).items == [
        Item("1", "A", "", None, "red"),
        Item("2", "B", "", None, "green"),
    ]
    assert calls == [("org/name", None, "train", "abc")]


def test_hub_fields_keep_their_ids_and_dates(
    hub: Callable[..., list[tuple[Any, ...]]], make_data: MakeData
) -> None:
    hub(to_dataset(ITEMS, TAGS))
    assert load_labelled(hub_data(make_data), TAGS).items == ITEMS


def test_hub_problems_are_listed(
    hub: Callable[..., list[tuple[Any, ...]]], make_data: MakeData
) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"title": Value("string"), "tag": ClassLabel(names=["red", "blue"])})
    hub(Dataset.from_dict({"title": ["A", "B", ""], "tag": [-1, 1, 0]}, features=features))
    with pytest.raises(UserError, match=r"org/name \(split train\) cannot be used") as caught:
        load_labelled(hub_data(make_data), TAGS)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "row 1: no tag: the column 'tag' is blank",
        "row 2: 'blue' is none of the 2 tags: red, green",
        "row 3: no text: 'title' is blank",
    ]
    hub(Dataset.from_dict({"title": [["A"]], "tag": ["red"]}))
    with pytest.raises(UserError, match="the column 'title' holds"):
        load_labelled(hub_data(make_data), TAGS)


@pytest.mark.parametrize("error", [ConnectionError("no way\nthere"), ValueError("bad split")])
def test_hub_that_cannot_be_reached(
    hub: Callable[..., list[tuple[Any, ...]]], make_data: MakeData, error: Exception
) -> None:
    hub(error)
    with pytest.raises(UserError, match=f"cannot be loaded: {type(error).__name__}") as caught:
        load_labelled(hub_data(make_data), TAGS)
    assert "data=file" in caught.value.hint


def test_further_columns_are_read_by_id(write: Write, make_data: MakeData) -> None:
    path = write("items.csv", "key,title,kind\n007,a,paper\n8,b,\n9,c, post \n")
    data = make_data(path=str(path), columns={"id": "key"})
    assert read_columns(data, ["kind"]) == {"kind": {"007": "paper", "9": "post"}}


def test_a_column_that_is_not_there_is_named_with_those_that_are(
    write: Write, make_data: MakeData
) -> None:
    path = write("items.csv", "id,title,kind\n1,a,paper\n")
    with pytest.raises(UserError, match="no column kidn") as error:
        read_columns(make_data(path=str(path)), ["kidn"])
    assert error.value.hint == "Its columns are id, kind, title."


# What a table needs, and what it may say


LABELLED = "text,label\n" + "".join(f"text number {n},{'ab'[n % 2]}\n" for n in range(8))


def test_tags_are_those_of_the_data(write: Write, make_data: MakeData) -> None:
    found = load_labelled(make_data(path=str(write("a.csv", LABELLED)), tags="auto"))
    assert found.tags == ["a", "b"]
    assert found.items[0] == Item("1", "", "text number 0", None, "a")
    assert found.columns == {"description": "text", "tag": "label"}
    assert found.parts is None
    assert len(found.notes) == 1
    assert "read tag from 'label'" in found.notes[0]


def test_what_the_user_should_know_is_noted(write: Write, make_data: MakeData) -> None:
    content = "text,tag\n" + "one text,computer-vision\n" * 20 + "other,computer-vison\n,\n"
    found = load_labelled(make_data(path=str(write("a.csv", content)), tags="auto"))
    assert any("skipped: 1" in note for note in found.notes)
    assert any("is it a slip?" in note for note in found.notes)
    tags = write("tags.yaml", "tags: [{name: a}, {name: b}, {name: c}]")
    found = load_labelled(make_data(path=str(write("b.csv", LABELLED)), tags=str(tags)))
    assert found.tags == ["a", "b", "c"]
    assert any("no row has the tag c" in note for note in found.notes)


def test_what_is_lacking_is_told_in_one_screen_with_what_to_give(
    write: Write, make_data: MakeData
) -> None:
    path = write("a.csv", LABELLED.replace("text,label", "first,second").replace(",", ",x,"))
    with pytest.raises(UserError) as caught:
        load_labelled(make_data(path=str(path), tags="auto"))
    assert "data.columns='{text: first, tag: second}'" in caught.value.hint
    table = open_file(path)
    with pytest.raises(UserError) as caught:
        read_labelled([table], TableFormat(takes="options"), None)
    assert "--columns '{text: first, tag: second}'" in caught.value.hint
    with pytest.raises(UserError) as caught:
        read_labelled([table], UNSAID, None)
    assert "columns=" not in str(caught.value)
    assert "--columns" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_a_column_says_which_part_a_row_is_in(
    write: Write, make_data: MakeData, make_split: Any
) -> None:
    rows = LABELLED.splitlines()
    parts = ["part", "train", " Train", "training", "val", "dev", "TEST", "test", "train"]
    path = write("a.csv", "\n".join(f"{row},{part}" for row, part in zip(rows, parts, strict=True)))
    data = make_data(path=str(path), tags="auto", split=make_split(column="part"))
    assert load_labelled(data).parts == ["train"] * 3 + ["validation"] * 2 + ["test"] * 2 + [
        "train"
    ]
    path.write_text(path.read_text().replace("dev", "later"))
    with pytest.raises(
        UserError, match=r"row 5 \(line 6\): part is 'later', expected one of train"
    ):
        load_labelled(data)
    with pytest.raises(UserError, match=r"no column 'prt' .did you mean 'part'"):
        load_labelled(data.model_copy(update={"split": make_split(column="prt")}))


def test_another_file_holds_the_test_rows(write: Write, make_data: MakeData) -> None:
    path, test = write("a.csv", LABELLED), write("b.csv", LABELLED.replace("number", "nr"))
    found = load_labelled(make_data(path=str(path), test_path=str(test), tags="auto"))
    assert found.parts == ["train"] * 8 + ["test"] * 8
    # Both count from 1.
    assert [item.id for item in found.items[7:9]] == ["8", "test:1"]


def test_a_folder_of_datasets_is_loaded(tmp_path: Path, make_data: MakeData) -> None:
    from datasets import DatasetDict

    dataset = to_dataset(ITEMS, TAGS)
    DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "both")
    data = make_data(path=str(tmp_path / "both" / "train"), tags="auto")
    assert load_labelled(data).items == ITEMS
    with pytest.raises(UserError, match=r"several parts.*both/test.*both/train"):
        load_labelled(make_data(path=str(tmp_path / "both")))
    with pytest.raises(UserError, match="is a folder, a file was expected; it holds both"):
        load_labelled(make_data(path=str(tmp_path)))


@pytest.mark.parametrize("kind", ["frame", "records", "dataset"])
def test_tables_from_python(kind: str) -> None:
    import pandas as pd

    records = [{"headline": f"text {n}", "label": n % 2, "x": None} for n in range(4)]
    table: Any = records
    if kind == "frame":
        table = pd.DataFrame(records)
    if kind == "dataset":
        from datasets import Dataset

        table = Dataset.from_list(records)
    found = read_labelled([open_table(table, "mine")], UNSAID, None)
    assert found.tags == ["0", "1"]
    assert found.items[1] == Item("2", "text 1", "", None, "1")
