"""`cage treasury balances`: every wallet by the books, by the chain, and on its way."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, field, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

COLUMNS = (
    "wallet", "asset", "books>", "chain>", "reserved>", "outgoing>", "incoming>", "free>", "band",
)  # fmt: skip


def balances(
    network: Annotated[str | None, typer.Option(help="Only this network's wallets.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every custody wallet, by the books and by the chain, and the block that the chain is at."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/wallets")

    found = call(work, api=api, key_id=key_id, key=key)
    wallets = [row for row in found if network in (None, row["network"])]
    if as_json:
        show_json({"items": wallets})
        return
    show_table(COLUMNS, [_row(row) for row in wallets])
    for line in _blocks(wallets):
        show_line(line)


def _row(row: Mapping[str, Any]) -> Sequence[object]:
    band = row["band"]
    return (
        row["wallet"],
        row["asset"],
        row["ledger"],
        row["chain"],
        field(row, "reserved"),
        field(row, "outgoing"),
        field(row, "incoming"),
        field(row, "free"),
        None if band is None else f"{band['status']} ({band['min']} to {band['max']})",
    )


def _blocks(wallets: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per block that amounts are of."""
    lines = {
        (
            row["network"],
            block["height"],
            f"{row['network']} at block {block['height']} {block['block_hash']}"
            f" ({block['source']}, {block['age_seconds']} s ago)",
        )
        for row in wallets
        if (block := field(row, "chain_block")) is not None
    }
    return [line for _, _, line in sorted(lines)]


def mount(app: typer.Typer) -> None:
    """Add the command to the treasury group."""
    app.command("balances")(balances)
