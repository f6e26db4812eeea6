"""Runs config/migrations/sql/0042_reconciliation_order.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0042_reconciliation_order.sql")
