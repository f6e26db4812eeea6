"""Runs config/migrations/sql/0049_months.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0049_months.sql")
