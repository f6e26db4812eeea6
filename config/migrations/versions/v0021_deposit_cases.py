"""Runs config/migrations/sql/0021_deposit_cases.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0021_deposit_cases.sql")
