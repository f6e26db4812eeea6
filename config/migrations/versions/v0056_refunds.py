"""Runs config/migrations/sql/0056_refunds.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0056_refunds.sql")
