"""Runs config/migrations/sql/0033_reconciliations.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0033_reconciliations.sql")
