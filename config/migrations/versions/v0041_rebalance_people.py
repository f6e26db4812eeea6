"""Runs config/migrations/sql/0041_rebalance_people.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0041_rebalance_people.sql")
