"""What commands do with care: an amount said twice, a file named only once it is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from gateway.cli.console import USAGE, CliError

PART_SUFFIX = ".part"

ConfirmOption = Annotated[
    str | None, typer.Option("--confirm-amount", help="The amount again, instead of typing it.")
]


def say_twice(what: str, amount: str, given: str | None) -> None:
    """The amount a second time: typed, or as an option where nobody types. Raises CliError."""
    again = given if given is not None else typer.prompt(f"{what}; type the amount again", err=True)
    if again != amount:
        raise CliError("the amounts differ; nothing was signed", code=USAGE)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A file to write; who fails in between leaves none of this name. Raises CliError."""
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(path)
    except OSError as error:
        raise CliError(f"{path} cannot be written ({error.strerror})") from error
