"""`cage ledger statement | export | verify`: the books read back, over the API.

Pages are followed one at a time and written as they come: memory does not grow with the journal.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli import journal_file
from gateway.cli.care import whole_file
from gateway.cli.console import (
    FAILED,
    USAGE,
    CliError,
    JsonOption,
    note,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.journal_file import BrokenExport, Format, JournalWriter
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call, pages

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

SETTLED_SECONDS = 60  # a posting carries the moment its work began: older ones are all there

FromOption = Annotated[str | None, typer.Option("--from", help="RFC 3339, in it; else the start.")]
ToOption = Annotated[
    str | None, typer.Option("--to", help="RFC 3339, not in it; else one minute ago.")
]


def statement(
    player: Annotated[str, typer.Argument(help="The casino's own player id.")],
    brand: Annotated[str, typer.Option("--brand", help="The player's brand.")],
    since: FromOption = None,
    until: ToOption = None,
    asset: Annotated[str | None, typer.Option(help="btc:BTC, eth:USDT, ...")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What moved on a player's stages. Exit 1 when opening and lines do not make the closing."""
    if as_csv and as_json:
        raise CliError("--csv and --json exclude each other", hint="give one", code=USAGE)

    path = f"/v1/players/{quote(player, safe='~@+=:')}/statement"

    async def work(client: "StaffClient") -> dict[str, Any]:
        query = {"brand": brand, "to": until or _settled(client.clock.now())}
        query |= {name: value for name, value in (("from", since), ("asset", asset)) if value}
        items: list[Mapping[str, Any]] = []
        answer: dict[str, Any] = {}
        async for page in pages(client, path, query):
            items += page["items"]
            answer = dict(page)
        return {**answer, "items": items}

    answer = call(work, api=api, key_id=key_id, key=key)
    answer.pop("next_cursor")
    if as_json:
        show_json(answer)
    else:
        _show_statement(answer, as_csv=as_csv)
    wrong = _unequal(answer)
    if wrong:
        raise CliError(
            f"opening and lines do not make the closing of {', '.join(wrong)}",
            hint="cage ledger verify",
        )


def export(
    since: FromOption = None,
    until: ToOption = None,
    form: Annotated[Format, typer.Option("--format", help="csv or jsonl.")] = Format.CSV,
    out: Annotated[Path | None, typer.Option(help="A file; stdout without it.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Check an exported file instead: whole and unchanged?")
    ] = None,
    brand: Annotated[str | None, typer.Option(help="Only this brand's lines.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
) -> None:
    """The journal of a period, line by line, with totals and a digest at its end."""
    if check is not None:
        _check(check)
        return
    writer = JournalWriter(form)

    async def work(client: "StaffClient") -> str:
        end = until or _settled(client.clock.now())
        query = (
            {"to": end} | ({"from": since} if since else {}) | ({"brand": brand} if brand else {})
        )
        with _target(out) as stream, _progress("entries") as advance:
            stream.write(writer.begin())
            async for page in pages(client, "/v1/ledger/entries", query):
                stream.write(writer.add(page["items"]))
                advance(len(page["items"]))
            stream.write(writer.end())
        return end

    end = call(work, api=api, key_id=key_id, key=key)
    note(f"{writer.entries} entries booked before {end}" + (f" in {out}" if out else ""))


def verify(
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the books from zero. Exit 1 with each contradiction that there is."""
    checked: dict[str, int] = {}
    findings: list[Mapping[str, Any]] = []

    async def work(client: "StaffClient") -> None:
        with _progress("objects") as advance:
            async for page in pages(client, "/v1/ledger/verification", limit=None):
                checked[page["part"]] = checked.get(page["part"], 0) + page["checked"]
                findings.extend(page["items"])
                advance(page["checked"])

    call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"verified": not findings, "checked": checked, "findings": findings})
    else:
        show_table(("part", "checked>"), list(checked.items()))
        if findings:
            columns = ("kind", "subject", "asset", "difference_minor")
            show_table(
                ("finding", "subject", "asset", "difference>"),
                [[item[name] for name in columns] for item in findings],
            )
            show_line(f"NOT verified: {len(findings)} findings")
        else:
            show_line("verified: every balance is the sum of its entries")
    if findings:
        raise typer.Exit(FAILED)


def mount(ledger_app: typer.Typer) -> None:
    """Add the commands to the group."""
    for name, command in (("statement", statement), ("export", export), ("verify", verify)):
        ledger_app.command(name)(command)


def _settled(now: datetime) -> str:
    moment = now - timedelta(seconds=SETTLED_SECONDS)
    return moment.isoformat().replace("+00:00", "Z")


def _show_statement(answer: Mapping[str, Any], *, as_csv: bool) -> None:
    balances = [
        (row["stage"], row["asset"], row["opening"], row["closing"]) for row in answer["stages"]
    ]
    lines = [
        (
            row["booked_at"],
            row["stage"],
            row["asset"],
            row["side"],
            row["amount"],
            row["kind"],
            row["deposit_id"] or row["withdrawal_id"] or row["reference"],
        )
        for row in answer["items"]
    ]
    names = ("booked at", "stage", "asset", "side", "amount>", "posting", "origin")
    totals = ("stage", "asset", "opening>", "closing>")
    if as_csv:
        for row in (names, *lines, (), totals, *balances):
            sys.stdout.write(journal_file.csv_line([str(cell).rstrip(">") for cell in row]))
        return
    show_line(f"{answer['player_id']} of {answer['brand']}, {answer['since']} to {answer['until']}")
    show_table(names, lines)
    show_table(totals, balances)


def _unequal(answer: Mapping[str, Any]) -> list[str]:
    sums: dict[tuple[str, str], int] = {}
    for row in answer["items"]:
        place = (row["stage"], row["asset"])
        sums[place] = sums.get(place, 0) + int(row["change_minor"])
    return [
        f"{row['stage']} {row['asset']}"
        for row in answer["stages"]
        if int(row["opening_minor"]) + sums.get((row["stage"], row["asset"]), 0)
        != int(row["closing_minor"])
    ]


def _check(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            found = journal_file.check(stream)
    except OSError as error:
        raise CliError(f"{path} cannot be read ({error.strerror})") from error
    except BrokenExport as error:
        raise CliError(f"{path}: {error}", hint="export the period again") from error
    show_line(f"{path} is whole: {found.entries} entries, sha256 {found.digest}")


@contextmanager
def _target(out: Path | None) -> Iterator[IO[str]]:
    """Where the export goes. A file has its name only once it is whole."""
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with whole_file(out) as stream:
        yield stream


@contextmanager
def _progress(noun: str) -> Iterator[Callable[[int], None]]:
    """A line on stderr that counts, when a person looks."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.completed:,.0f} " + noun))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(noun, total=None)
        yield lambda count: progress.advance(task, count)
