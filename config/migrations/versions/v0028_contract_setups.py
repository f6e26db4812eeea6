"""Runs config/migrations/sql/0028_contract_setups.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0028"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0028_contract_setups.sql")
