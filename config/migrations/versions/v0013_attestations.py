"""Runs config/migrations/sql/0013_attestations.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0013_attestations.sql")
