"""Alembic's entry: runs the revisions on the connection that `preparing.prepare` hands over, inside
its transaction.
"""

from alembic import context

from nas_attn.storage.tables import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
context.run_migrations()
