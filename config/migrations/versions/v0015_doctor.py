"""Runs config/migrations/sql/0015_doctor.sql. Forward only: there is no downgrade."""

from config.migrations.runner import run_sql_file

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file("0015_doctor.sql")
