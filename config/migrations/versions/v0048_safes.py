"""Runs config/migrations/sql/0048_safes.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0048_safes.sql")
