"""Runs config/migrations/sql/0034_reconciliations.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0034_reconciliations.sql")
