"""Runs config/migrations/sql/0039_collects.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0039_collects.sql")
