"""Alembic runs this for every migration; connection and transaction are those of `hub.db.upgrade`."""

from alembic import context

from hub.db.tables import metadata

connection = context.config.attributes["connection"]
# SQLite cannot change a column in place: there Alembic makes a new table and copies ("batch").
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
context.run_migrations()
