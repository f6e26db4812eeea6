"""Runs config/migrations/sql/0046_rebalance_people.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0046_rebalance_people.sql")
