"""Runs config/migrations/sql/0007_evidence.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0007_evidence.sql")
