"""Runs config/migrations/sql/0010_deposits.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0010_deposits.sql")
