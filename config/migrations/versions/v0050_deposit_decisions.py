"""Runs config/migrations/sql/0050_deposit_decisions.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0050_deposit_decisions.sql")
