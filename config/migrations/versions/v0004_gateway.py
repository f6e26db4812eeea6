"""Runs config/migrations/sql/0004_gateway.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0004_gateway.sql")
