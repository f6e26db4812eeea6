"""Runs config/migrations/sql/0001_roles.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0001_roles.sql")
