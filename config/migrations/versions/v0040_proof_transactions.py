"""Runs config/migrations/sql/0040_proof_transactions.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0040_proof_transactions.sql")
