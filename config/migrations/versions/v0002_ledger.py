"""Runs the two files of the schema `ledger`: tables, then functions. Forward only, no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0002_ledger.sql")
    run_sql_file("0002_ledger_functions.sql")
