"""Runs config/migrations/sql/0052_refunds.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0052_refunds.sql")
