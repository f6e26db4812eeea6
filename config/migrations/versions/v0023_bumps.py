"""Runs config/migrations/sql/0023_bumps.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0023"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0023_bumps.sql")
