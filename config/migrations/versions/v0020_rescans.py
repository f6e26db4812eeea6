"""Runs config/migrations/sql/0020_rescans.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0020_rescans.sql")
