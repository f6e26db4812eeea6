"""Runs config/migrations/sql/0008_switches.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0008_switches.sql")
