"""Runs config/migrations/sql/0009_exposure.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0009_exposure.sql")
