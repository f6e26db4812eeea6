"""Runs one SQL file of this folder inside the migration's transaction."""

from pathlib import Path

from alembic import op

SQL_FOLDER = Path(__file__).parent / "sql"


def run_sql_file(name: str) -> None:
    """Execute the whole file as one simple-protocol script (function bodies keep their `;`)."""
    script = (SQL_FOLDER / name).read_text(encoding="utf-8")
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("migrations need an open driver connection")
    op.get_bind().connection.dbapi_connection.run_async(  # type: ignore[union-attr]
        lambda connection: connection.execute(script)
    )
