import csv

import pytest

from tagger.audit.report import AuditReport
from tagger.cli import main


@pytest.fixture
def data(toy_folder, tmp_path, monkeypatch):
    """The toy file with a hostile title and a turned tag."""
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[5]["title"] = "<script>alert(1)</script> " + rows[5]["title"]
    rows[5]["tag"] = "fruit"
    path = tmp_path / "items.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run(toy_folder, data):
    def audit(*arguments):
        tags = str(toy_folder / "tags.yaml")
        main(["audit", "--data", str(data), "--tags", tags, "--no-embeddings", *arguments])

    return audit


def test_the_command_prints_and_writes_what_it_found(run, data, capsys):
    run()
    printed = capsys.readouterr().out
    assert "Labels: " in printed
    assert "t05, row 6 (line 7)" in printed
    folder = data.parent / "audits" / "items"
    audit = AuditReport.read(folder / "audit.json")
    assert audit.labels.rows[0].id == "t05"
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_gate_that_fails_ends_with_1_after_all_is_written(run, data, capsys):
    lines = data.read_text(encoding="utf-8").splitlines()
    lines.append(lines[11].replace("t10,", "twin,").replace(",metal", ",fruit"))
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        run("--fail-on", "conflicts,schema", "--fail-on", "repeats>1")
    assert caught.value.code == 1
    failed = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert failed == ["failed: conflicts is 1, allowed is 0"]
    assert (data.parent / "audits" / "items" / "audit.html").is_file()


def test_bad_conditions_are_refused_before_any_work(run, data, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--fail-on", "lable-errors")
    assert caught.value.code == 2
    assert "did you mean 'label-errors'" in capsys.readouterr().err
    assert not (data.parent / "audits").exists()


def test_out_to_a_person_and_back(run, data, capsys):
    run("--export", "review.csv", "--out", "first")
    review = data.parent / "review.csv"
    with review.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["t05"]
    rows[0] |= {"decision": "relabel", "new_tag": "weather", "why": "it rains"}
    with review.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    run("--import", "review.csv", "--by", "Ada")
    assert "1 decisions carried out" in capsys.readouterr().out
    run("--fail-on", "label-errors")


def test_an_untagged_file_says_what_was_not_checked(toy_folder, tmp_path, capsys):
    path = tmp_path / "plain.jsonl"
    path.write_text('{"id": "1", "title": "apple"}\n{"id": "2", "title": "pear"}\n')
    tags = str(toy_folder / "tags.yaml")
    out = str(tmp_path / "out")
    main(["audit", "--data", str(path), "--tags", tags, "--no-embeddings", "--out", out])
    printed = capsys.readouterr().out
    for part in ("Labels: not checked", "Drift: not measured", "no row has a date"):
        assert part in printed
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "Labels: not checked" in page
