"""Runs config/migrations/sql/0014_ledger_depth.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0014_ledger_depth.sql")
