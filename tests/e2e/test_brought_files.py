"""Tables as people bring them: each is trained on, evaluated and predicted without more words."""

import csv
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tagger.cli import main
from tagger.config.composition import compose_config, load_config, with_source
from tagger.config.schema import EvaluateConfig, TrainConfig
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.report import EvaluationReport
from tagger.files import REPO_ROOT
from tagger.reporting.evaluation import report_evaluation
from tagger.runs import RunFolder
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

CASES = REPO_ROOT.parent / "shared" / "cases"
WORDS = {
    tag: words.split()
    for tag, words in {
        "apples": "apple pear plum cherry grape melon orchard harvest juice sweet ripe peel",
        "metals": "iron copper zinc nickel silver alloy furnace forge solder rust wire bolt",
    }.items()
}


def texts(count: int = 40) -> list[tuple[str, str]]:
    """Texts and their tags, two tags in turn; words of its own keep each from repeating others."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        tag = list(WORDS)[number % 2]
        own = ["".join(rng.choices("bdfgklmnprstvz", k=7)) for _ in range(6)]
        rows.append((" ".join([*rng.sample(WORDS[tag], 4), *own]), tag))
    return rows


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Trains a linear model on a file, as `train.py model=linear data.path=FILE` does."""

    def make(path: Path, *overrides: str) -> RunFolder:
        runs_dir = tmp_path_factory.mktemp("runs")
        given = ["model=linear", f"data.path='{path}'", "name=run", f"runs_dir={runs_dir}"]
        config = load_config(
            TrainConfig, compose_config("train", with_source([*given, *overrides]))
        )
        return RunFolder(train(config))

    return make


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("plain") / "mine.csv", ["text", "label"], texts())


@pytest.fixture(scope="module")
def plain_run(make_run: MakeRun, plain_file: Path) -> RunFolder:
    return make_run(plain_file)


def evaluate(run: RunFolder, *overrides: str, pages: bool = False) -> EvaluationReport:
    """Evaluate a run; with `pages`, write the report too, whose figures take longest."""
    quick = ["explore=off", "latency.items=10", "latency.warmup=0", "resamples=100"]
    given = [f"run='{run.path}'", *quick, *overrides]
    config = load_config(EvaluateConfig, compose_config("evaluate", with_source(given)))
    evaluation = evaluate_run(config)
    return report_evaluation(evaluation) if pages else evaluation.report


def predict(run: RunFolder, path: Path, output: Path, *options: str) -> list[dict[str, str]]:
    main(
        ["predict", "--run", str(run.path), "--input", str(path), "--output", str(output), *options]
    )
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def serves(run: RunFolder, path: Path, tmp_path: Path, rows: int, *, pages: bool = False) -> None:
    """Check that a run evaluates, and predicts its own file, without being told anything more."""
    assert evaluate(run, pages=pages).overall.num_samples > 0
    answers = predict(run, path, tmp_path / "out.csv")
    assert len(answers) == rows
    assert {row["tag"] for row in answers} <= set(run.tags)


def test_two_columns(
    plain_run: RunFolder, plain_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert any("read tag from 'label'" in note for note in plain_run.meta.data.notes)
    assert plain_run.tags == ("apples", "metals")
    assert plain_run.columns == {"description": "text", "tag": "label"}
    serves(plain_run, plain_file, tmp_path, 40, pages=True)
    assert "no slices by year" in capsys.readouterr().out


def test_own_columns_are_remembered(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"k{n}", text, tag, "x") for n, (text, tag) in enumerate(texts())]
    path = write_csv(tmp_path / "mine.csv", ["key", "what", "kind", "more"], rows)
    with pytest.raises(UserError, match="cannot be read as it is") as caught:
        make_run(path)
    assert caught.value.hint == "data.columns='{text: what, tag: kind}' would do"
    assert len(str(caught.value).splitlines()) < 10
    run = make_run(path, "data.columns={id: key, text: what, tag: kind}")
    # A list of other tags in the folder at hand is none of the run's business.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tags.yaml").write_text("tags:\n- name: a\n- name: b\n")
    monkeypatch.chdir(tmp_path)
    serves(run, path, tmp_path, 40)
    answers = predict(run, path, tmp_path / "kept.csv", "--keep-columns")
    assert answers[0]["id"] == "k0"
    assert answers[0]["kind (input)"] if "kind (input)" in answers[0] else answers[0]["more"] == "x"
    report = evaluate(run, "data=file", f"data.path='{path}'", "rows=all")
    assert report.overall.num_samples == 40
    main(["audit", "--data", str(path), "--run", str(run.path), "--no-embeddings"])


def test_any_tag(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = [
        "Sci/Tech", "card?", "ABBR:abb", "Shoes & Jewelry, etc", "❤️", "房产（二手）",
        "$a$ [b] |c|", "id",
    ]  # fmt: skip
    rows = [(text, tags[number % len(tags)]) for number, (text, _) in enumerate(texts(120))]
    path = write_csv(tmp_path / "mine.csv", ["text", "label"], rows)
    run = make_run(path)
    assert "read tag from 'label'" in capsys.readouterr().out
    assert set(run.tags) == set(tags)
    serves(run, path, tmp_path, 120, pages=True)


def test_given_parts(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [(text, tag, "test" if n < 10 else "Train") for n, (text, tag) in enumerate(texts())]
    rows.append((*rows[0][:2], "train"))  # a test row again
    path = write_csv(tmp_path / "mine.csv", ["text", "label", "part"], rows)
    run = make_run(path, "data.split.column=part")
    assert run.meta.data.rows == {"train": 26, "validation": 4, "test": 10}
    assert "1 rows that repeat" in run.meta.data.notes[-1]
    assert evaluate(run).overall.num_samples == 10

    train_path = write_csv(tmp_path / "train.csv", ["text", "label"], texts()[10:])
    test_path = write_csv(tmp_path / "test.csv", ["text", "label"], texts()[:10])
    run = make_run(train_path, f"data.test_path='{test_path}'")
    assert run.meta.data.rows["test"] == 10
    assert evaluate(run).overall.num_samples == 10


def test_rows_that_cannot_be_answered_go_to_review(
    plain_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,text\n1,\n2,a ripe apple\n3,too,many,fields\n04,"iron, rust"\n')
    answers = predict(plain_run, path, tmp_path / "out.csv")
    assert [row["id"] for row in answers] == ["1", "2", "", "04"]
    assert [row["decision"] for row in answers] == [
        "needs review", "apples", "needs review", "metals",
    ]  # fmt: skip
    assert answers[0]["reason"] == "no text: 'text' is blank"
    assert "fields" in answers[2]["reason"]
    assert answers[1]["reason"] == ""
    assert "2 of them could not be answered" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        predict(plain_run, path, tmp_path / "strict.csv", "--strict")
    assert caught.value.code == 2
    assert not (tmp_path / "strict.csv").exists()
    assert "row 1 (line 2): no text" in capsys.readouterr().err


def test_a_header_alone_is_an_empty_output(
    plain_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        path = write_csv(tmp_path / "new.csv", ["id", "text"], [])
        main(["predict", "--run", str(plain_run.path), "--input", str(path),
              "--output", str(tmp_path / name)])  # fmt: skip
        assert "0 items" in capsys.readouterr().out
    assert (
        (tmp_path / "out.csv").read_text().startswith("id,decision,tag,probability,reason,apples")
    )


def test_compressed_in_and_out(plain_run: RunFolder, tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"id": n, "text": text}) + "\n" for n, (text, _) in enumerate(texts())
    )
    path = tmp_path / "new.jsonl.gz"
    path.write_bytes(gzip.compress(rows.encode()))
    output = tmp_path / "out.jsonl.gz"
    main(["predict", "--run", str(plain_run.path), "--input", str(path), "--output", str(output)])
    answers = [json.loads(line) for line in gzip.decompress(output.read_bytes()).splitlines()]
    assert [row["id"] for row in answers] == list(range(40))


# The files of others, where they are


@pytest.mark.skipif(not CASES.is_dir(), reason="there is no ../shared/cases")
@pytest.mark.parametrize(
    ("name", "overrides", "rows"),
    [
        ("text-label.csv", (), 160),
        ("no-date.csv", (), 160),
        ("no-description.csv", (), 160),
        ("headline.csv", ("data.columns={title: headline, text: body, tag: label}",), 160),
        ("v1v2.csv", (), 160),
        ("footer.csv", (), 400),
        ("frame.csv", (), 400),
        ("tags-ag-news.csv", (), 160),
        ("tags-amazon.csv", (), 160),
        ("tags-banking.csv", (), 160),
        ("tags-chinese.csv", (), 160),
        ("tags-emoji.csv", (), 160),
        ("tags-trec.csv", (), 160),
    ],
)
def test_shared_case_trains_and_serves(
    make_run: MakeRun,
    tmp_path: Path,
    name: str,
    overrides: tuple[str, ...],
    rows: int,
) -> None:
    run = make_run(CASES / name, *overrides)
    serves(run, CASES / name, tmp_path, rows)
    if name != "headline.csv":
        return  # one audit is enough: it takes longer than all else
    main(["audit", "--data", str(CASES / name), "--run", str(run.path), "--no-embeddings",
          "--out", str(tmp_path / "audit")])  # fmt: skip


@pytest.mark.skipif(not CASES.is_dir(), reason="there is no ../shared/cases")
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("02-semicolon.csv", 4), ("14-array-pretty.jsonl", 3), ("19-dup-unused.csv", 4),
        ("29-blank-commas.csv", 4), ("33-comment-line.csv", 4), ("35-nan-unused.jsonl", 3),
        ("date-1987.csv", 2), ("date-zone-name.csv", 2),
    ],
)  # fmt: skip
def test_shared_case_is_read(name: str, rows: int) -> None:
    from tagger.data.sources import load_labelled

    overrides = with_source([f"data.path='{CASES / name}'"])
    data = load_config(TrainConfig, compose_config("train", overrides)).data
    assert len(load_labelled(data).items) == rows


@pytest.mark.skipif(not CASES.is_dir(), reason="there is no ../shared/cases")
def test_shared_case_predicts(plain_run: RunFolder, tmp_path: Path) -> None:
    answers = predict(plain_run, CASES / "predict-blank-row.csv", tmp_path / "a.csv")
    assert [bool(row["reason"]) for row in answers] == [True, False, False]
    assert predict(plain_run, CASES / "predict-header-only.csv", tmp_path / "b.csv") == []
    answers = predict(plain_run, CASES / "predict-float-ids.parquet", tmp_path / "c.csv")
    assert answers[0]["id"] == "20230000001"
