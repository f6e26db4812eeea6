"""Runs config/migrations/sql/0005_voids.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0005_voids.sql")
