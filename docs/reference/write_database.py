"""Writes database.md beside this file from the tables' own sentences: `make docs`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Table

from nas_attn.storage.tables import SCHEMA_VERSIONS, metadata

LATEST = SCHEMA_VERSIONS[-1]
PAGE = Path(__file__).with_name("database.md")
HEAD = f"""\
# The database

`make docs` writes this page from `nas_attn/storage/tables.py`.

The tables of nas_attn, beside Optuna's in one database, as of schema {LATEST}. Use commands
or Python to change anything in them; another program may read them. Times are Unix seconds by the
database's clock. An older database is upgraded when it is opened.
"""


def page() -> str:
    """The whole page, in Markdown."""
    tables = sorted(metadata.tables.values(), key=lambda table: table.name)
    return "\n\n".join([HEAD.rstrip(), *map(_section, tables)]) + "\n"


def _section(table: Table) -> str:
    lines = [f"## {table.name}", "", table.info["doc"], "", "| column | type | |", "|---|---|---|"]
    for column in table.columns:
        kind = str(column.type).lower()
        lines.append(f"| `{column.name}` | {kind} | {column.doc} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
