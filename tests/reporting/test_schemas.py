import json

from tagger.reporting.schemas import DOCS, documents, schema_files, with_section


def test_the_page_and_the_schemas_are_as_the_code_has_them() -> None:
    page = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    assert with_section(page) == page, "run: make docs"
    files = {path.name: path.read_text() for path in (DOCS / "schemas").iterdir()}
    assert files == schema_files(), "run: make docs"


def test_every_document_says_what_version_it_is() -> None:
    for content in schema_files().values():
        schema = json.loads(content)
        assert next(iter(schema["properties"])) == "schema_version"
        assert schema.get("additionalProperties") is False or schema["title"] == "RunMeta"


def test_every_document_is_on_the_page() -> None:
    page = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    for document in documents().values():
        assert f"### {document.__name__}" in page
