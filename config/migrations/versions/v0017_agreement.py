"""Runs config/migrations/sql/0017_agreement.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0017_agreement.sql")
