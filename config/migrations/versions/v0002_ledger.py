"""Runs config/migrations/sql/0002_ledger.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0002_ledger.sql")
