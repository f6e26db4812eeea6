"""Runs config/migrations/sql/0003_chain.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0003_chain.sql")
