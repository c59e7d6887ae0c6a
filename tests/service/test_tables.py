from sqlalchemy import inspect

from tagger.service import tables
from tagger.service.database import Store


def test_the_tables_have_the_columns_that_queries_name(store: Store) -> None:
    named = {
        value.name: {column.name for column in value.columns}
        for name, value in vars(tables).items()
        if name.isupper()
    }
    with store.reading() as connection:
        found = inspect(connection)
        for table, columns in named.items():
            assert {column["name"] for column in found.get_columns(table)} == columns, table
        assert set(found.get_table_names()) | set(found.get_view_names()) == {
            *named,
            "alembic_version",
        }
