"""Runs config/migrations/sql/0054_warm.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0054"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0054_warm.sql")
