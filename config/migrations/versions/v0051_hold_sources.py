"""Runs config/migrations/sql/0051_hold_sources.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0051_hold_sources.sql")
