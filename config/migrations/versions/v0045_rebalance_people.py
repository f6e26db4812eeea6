"""Runs config/migrations/sql/0045_rebalance_people.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0045_rebalance_people.sql")
