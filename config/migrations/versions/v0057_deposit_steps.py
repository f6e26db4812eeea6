"""Runs config/migrations/sql/0057_deposit_steps.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0057_deposit_steps.sql")
