"""Runs config/migrations/sql/0016_previous_txs.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0016_previous_txs.sql")
