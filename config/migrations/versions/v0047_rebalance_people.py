"""Runs config/migrations/sql/0047_rebalance_people.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0047_rebalance_people.sql")
