"""Runs config/migrations/sql/0012_ledger_set.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0012_ledger_set.sql")
