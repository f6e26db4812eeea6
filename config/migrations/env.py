"""Alembic environment: runs the forward-only SQL files over the connection that is handed in."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo


def tell(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """One step is done; whoever wanted to know of it (config/migrate.py) does."""
    told = context.config.attributes.get("told")
    if told is not None:
        told(step.up_revision_id)


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="config",
    on_version_apply=tell,
)
with context.begin_transaction():
    context.run_migrations()
