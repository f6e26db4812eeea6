"""Runs config/migrations/sql/0035_deliveries.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0035_deliveries.sql")
