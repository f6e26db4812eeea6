"""Runs config/migrations/sql/0006_nodes.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0006_nodes.sql")
