"""Runs config/migrations/sql/0031_wallets.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0031_wallets.sql")
