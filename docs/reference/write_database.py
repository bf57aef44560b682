"""Writes database.md beside this file from the tables' own sentences: `make docs`."""

from __future__ import annotations

import ast
from pathlib import Path

from nas_attn.storage import tables
from nas_attn.storage.tables import SCHEMA_VERSIONS, Base

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
    found = sorted(Base.__subclasses__(), key=lambda kind: kind.__tablename__)
    return "\n\n".join([HEAD.rstrip(), *map(_section, found)]) + "\n"


def _sentences() -> dict[str, dict[str, str]]:
    """Class -> column -> the sentence below it."""
    source = ast.parse(Path(str(tables.__file__)).read_text("utf-8"))
    found: dict[str, dict[str, str]] = {}
    for kind in (node for node in source.body if isinstance(node, ast.ClassDef)):
        found[kind.name] = {
            ast.unparse(field.target): " ".join(ast.literal_eval(below.value).split())
            for field, below in zip(kind.body, kind.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
        }
    return found


def _section(kind: type[Base]) -> str:
    sentences = _sentences()[kind.__name__]
    lines = [f"## {kind.__tablename__}", "", " ".join(str(kind.__doc__).split()), ""]
    lines += ["| column | type | |", "|---|---|---|"]
    for column in kind.__table__.columns:
        lines.append(f"| `{column.name}` | {str(column.type).lower()} | {sentences[column.name]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
