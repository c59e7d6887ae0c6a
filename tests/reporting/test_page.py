from tagger.reporting.page import Column, Table, numeric


def test_headings_of_plain_text_are_columns_of_short_text() -> None:
    table = Table(["tag", *numeric(["rows", "share"]), Column("why", "prose")], [])
    assert table.headings == [
        Column("tag", "text"),
        Column("rows", "number"),
        Column("share", "number"),
        Column("why", "prose"),
    ]
