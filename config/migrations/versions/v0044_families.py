"""Runs config/migrations/sql/0044_families.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0044_families.sql")
