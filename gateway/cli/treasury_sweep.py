"""`cage treasury sweep` and `sweeps`: what lies at deposit addresses, asked for and shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

AssetOption = Annotated[str | None, typer.Option("--asset", help="Only this asset, eth:USDT.")]
NetworkOption = Annotated[str | None, typer.Option("--network", help="Only this network.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show it and ask for nothing.")]


def sweep(
    asset: AssetOption = None,
    network: NetworkOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sweep now what waits at deposit addresses, whatever its threshold or age."""
    given = {"asset": asset, "network": network}
    body = {**{name: value for name, value in given.items() if value}, "dry_run": dry_run}

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.post("/v1/sweeps", body)

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
        return
    rows = [(row["asset"], row["state"], row["sweeps"], row["amount"]) for row in answer["waiting"]]
    show_table(("asset", "state", "sweeps>", "amount>"), rows)
    verb = "would be asked for" if dry_run else "asked for; `cage treasury sweeps` shows them"
    show_line(f"{answer['sweeps']} {verb}" if answer["sweeps"] else "nothing waits")


def sweeps(
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    asset: AssetOption = None,
    network: NetworkOption = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What lies at deposit addresses of account chains, and where it stands on its way to hot."""
    given = {"state": state, "asset": asset, "network": network}
    query = {name: value for name, value in given.items() if value}

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/sweeps", query)

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    names = ("id", "asset", "amount", "deposits", "state", "code", "address", "txid")
    columns = ("sweep", "asset", "amount>", "deposits>", "state", "why", "address", "txid")
    show_table(columns, [tuple(row[name] for name in names) for row in found])


def mount(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("sweep")(sweep)
    app.command("sweeps")(sweeps)
