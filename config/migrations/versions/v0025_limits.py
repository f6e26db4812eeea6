"""Runs config/migrations/sql/0025_limits.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0025"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0025_limits.sql")
