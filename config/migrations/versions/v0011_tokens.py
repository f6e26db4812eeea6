"""Runs config/migrations/sql/0011_tokens.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0011_tokens.sql")
