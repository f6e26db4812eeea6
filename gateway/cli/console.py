"""What every command shares: one line per error with a hint, tables for people, JSON for programs.

Exit codes (CONTRACT 2): 0 done, 1 failed, 2 usage or configuration, 3 refused by policy. It must
not import a driver, a web client or a chain library: `cage --help` stays quick.
"""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from config.settings import Settings

FAILED = 1
USAGE = 2
REFUSED = 3
FOLDED_MIN = 30  # characters that the last column of a table has at least

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="cage.toml; without it CAGE_CONFIG, else the defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


class CliError(Exception):
    """A command that cannot go on: one line, perhaps a hint, and the exit code."""

    def __init__(self, message: str, *, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def show_error(message: str, hint: str = "") -> None:
    """One clear line on stderr, and the hint below it."""
    sys.stderr.write(f"cage: {' '.join(message.split())}\n")
    if hint:
        sys.stderr.write(f"  hint: {' '.join(hint.split())}\n")


def note(line: str) -> None:
    """A line for people that is no result: on stderr, so that stdout stays the answer."""
    sys.stderr.write(f"{line}\n")


def show_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def show_line(line: str) -> None:
    """One line of an answer on stdout."""
    sys.stdout.write(f"{line}\n")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people, as wide as the terminal allows; a file gets every line whole."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    width = Console().width if is_terminal else None
    sys.stdout.write(table_text(columns, rows, width=width, is_styled=is_terminal))


def table_text(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int | None = None,
    is_styled: bool = False,
) -> str:
    """The lines of a table. Columns whose name ends with `>` are numbers, to the right.

    Nothing is ever cut, least of all an amount: where `width` characters are too few, the last
    column goes on below its line, and where that is not enough each row is told line by line.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    names = [column.removesuffix(">") for column in columns]
    cells = [["-" if cell is None else _plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    last = 0 if columns[-1].endswith(">") else widths.pop()
    fixed = sum(widths) + 2 * (len(columns) - 1)
    if width is not None and fixed + min(last, FOLDED_MIN) > width:
        return _records(names, cells)
    console = Console(
        width=min(fixed + last, width or fixed + last), highlight=False, markup=False,
        file=StringIO(), force_terminal=is_styled,
    )  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in zip(columns, names, strict=True):
        is_number = column.endswith(">")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for each, at_least in zip(table.columns, widths, strict=False):
        each.min_width = at_least
    for row in cells:
        table.add_row(*row)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _records(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Each row as lines of name and value, a blank line between two."""
    width = max(map(len, names))
    records = [
        "".join(f"{name:<{width}}  {value}\n" for name, value in zip(names, row, strict=True))
        for row in rows
    ]
    return "\n".join(records)


def _plain(cell: object) -> str:
    """Text without control characters: a value of the API must not move the cursor."""
    return "".join(c if c.isprintable() else "?" for c in str(cell))


def settings_of(config: Path | None) -> "Settings":
    """The configuration of this call. Raises ConfigError."""
    from config.settings import load_settings

    if config is not None and not config.exists():
        raise CliError(
            f"configuration file {config} does not exist",
            hint="give another --config FILE",
            code=USAGE,
        )
    return load_settings(config)


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of work; a database that cannot be reached becomes one clear line."""
    from sqlalchemy.exc import DBAPIError

    try:
        return asyncio.run(work)
    except DBAPIError as error:
        detail = str(error.orig).splitlines()[0] if error.orig else type(error).__name__
        raise CliError(f"the database refused: {detail}") from error
    except (OSError, TimeoutError) as error:
        raise CliError(
            f"the database cannot be reached ({type(error).__name__})",
            hint="is it running, and is database.url (or DATABASE_URL) right?",
        ) from error


def become(module: str, *arguments: str, config: Path | None = None) -> NoReturn:
    """Replace this process by `python -m module`: signals and the pid are the role's own."""
    environ = dict(os.environ)
    if config is not None:
        environ["CAGE_CONFIG"] = str(config.resolve())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environ)


def field(value: Mapping[str, Any], name: str) -> Any:
    """`value[name]`, or None: an older API may not answer it."""
    return value.get(name)
