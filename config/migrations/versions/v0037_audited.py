"""Runs config/migrations/sql/0037_audited.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0037_audited.sql")
