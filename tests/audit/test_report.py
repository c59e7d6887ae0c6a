import pytest

from tagger.audit.report import AuditReport
from tagger.audit.run_audit import audit_file
from tagger.errors import UserError


def test_an_audit_comes_back_from_its_file(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("id,title\n1,ripe plums\n2,Ripe  plums\n", encoding="utf-8")
    audit = audit_file(path, tags=None, model=None)
    audit.write(tmp_path / "audit.json")
    assert AuditReport.read(tmp_path / "audit.json") == audit
    assert audit.repeats.kinds["text"].groups == 1


def test_an_audit_of_an_older_version_is_refused_and_its_command_is_known(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text('{"schema": {"problems": 0, "first": []}}', encoding="utf-8")
    with pytest.raises(UserError, match="AuditReport"):
        AuditReport.read(path)
    assert AuditReport.WRITTEN_BY == "tagger audit"
