"""Runs config/migrations/sql/0032_refills.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0032_refills.sql")
