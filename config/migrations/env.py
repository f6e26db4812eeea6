"""Alembic environment: runs the forward-only SQL files over the connection that is handed in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, version_table="schema_version", version_table_schema="config"
)
with context.begin_transaction():
    context.run_migrations()
