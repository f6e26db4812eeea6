"""Runs config/migrations/sql/0030_audit.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0030_audit.sql")
