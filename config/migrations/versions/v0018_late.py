"""Runs config/migrations/sql/0018_late.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0018_late.sql")
