"""Runs config/migrations/sql/0026_recoveries.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0026"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0026_recoveries.sql")
