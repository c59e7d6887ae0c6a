"""The command: what it prints, writes and ends with, and the loop with a person."""

import contextlib
import io

import pytest

from tagger.audit.report import AuditReport
from tagger.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(toy_folder, read_rows, write_rows, tmp_path_factory):
    """The toy file with a hostile title, a turned tag and a pair that contradicts itself."""
    rows = read_rows(toy_folder / "items.csv")
    rows[5]["title"] = "<script>alert(1)</script> " + rows[5]["title"]
    rows[5]["tag"] = "fruit"
    rows.append(rows[10] | {"id": "twin", "tag": "fruit"})
    folder = tmp_path_factory.mktemp("command")
    write_rows(folder / "items.csv", rows)
    return folder


@pytest.fixture(scope="module")
def run(toy_folder, folder):
    """Runs the command in the folder, and returns what it printed and its exit code."""

    def audit(*arguments):
        given = ["audit", "--data", "items.csv", "--tags", str(toy_folder / "tags.yaml")]
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main([*given, "--no-embeddings", *arguments])
            except SystemExit as end:
                code = end.code
        return out.getvalue(), err.getvalue(), code

    return audit


@pytest.fixture(scope="module")
def audited(run):
    gates = ["--fail-on", "conflicts,schema", "--fail-on", "repeats>1"]
    return run("--export", "review.csv", *gates)


def test_the_command_prints_and_writes_what_it_found(audited, folder):
    printed, _, _ = audited
    assert "Labels: " in printed
    assert "t05, row 6 (line 7)" in printed
    audit = AuditReport.read(folder / "audits" / "items" / "audit.json")
    assert "t05" in {row.id for row in audit.labels.rows}
    page = (folder / "audits" / "items" / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_gate_that_fails_ends_with_1_after_all_is_written(audited, folder):
    _, told, code = audited
    assert code == 1
    failed = [line for line in told.splitlines() if "failed" in line]
    assert failed == ["failed: conflicts is 1, allowed is 0"]
    assert (folder / "review.csv").is_file()


def test_bad_conditions_are_refused_before_any_work(run, folder):
    _, told, code = run("--fail-on", "lable-errors", "--out", "none")
    assert code == 2
    assert "did you mean 'label-errors'" in told
    assert not (folder / "none").exists()


def test_out_to_a_person_and_back(audited, run, folder, read_rows, write_rows):
    rows = read_rows(folder / "review.csv")
    assert {"t05", "t10", "twin"} <= {row["id"] for row in rows}
    decisions = {
        "t05": {"decision": "relabel", "new_tag": "weather", "why": "it rains"},
        "twin": {"decision": "drop", "why": "the same as t10"},
    }
    rows = [row | decisions.get(row["id"], {}) for row in rows]
    write_rows(folder / "review.csv", rows)
    printed, _, _ = run("--import", "review.csv", "--by", "Ada")
    assert "2 decisions carried out" in printed
    assert run("--fail-on", "label-errors,conflicts", "--out", "again")[2] == 0


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
