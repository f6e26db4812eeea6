"""`cage treasury`: the group of treasury staff, over the API, and its shorter commands."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import (
    switches,
    treasury_consolidate,
    treasury_forecast,
    treasury_nodes,
    treasury_plan,
    treasury_prove,
    treasury_sweep,
    treasury_top_up,
    treasury_wallets,
)
from gateway.cli.console import JsonOption, show_json, show_table
from gateway.cli.contract import contract_app
from gateway.cli.rates import rates_app
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call
from gateway.cli.treasury_refill import refill_app

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

treasury_app = typer.Typer(no_args_is_help=True, help="Wallets and the operator's coins.")
treasury_app.add_typer(rates_app, name="rates")
treasury_app.add_typer(contract_app, name="contract")
treasury_app.add_typer(refill_app, name="refill")


@treasury_app.command("inflows")
def inflows(
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Coins that reached our own addresses from outside."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/inflows", {"state": state} if state else {})

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    rows = [
        (
            row["id"],
            row["asset"],
            row["amount"],
            row["kind"],
            row["state"],
            row["assigned_to"],
            row["txid"],
        )
        for row in found
    ]
    show_table(("inflow", "asset", "amount>", "kind", "state", "assigned to", "txid"), rows)


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    treasury_plan.mount(treasury_app)
    treasury_top_up.mount(treasury_app)
    switches.mount(treasury_app)
    treasury_wallets.mount(treasury_app)
    treasury_forecast.mount(treasury_app)
    treasury_sweep.mount(treasury_app)
    treasury_nodes.mount(treasury_app)
    treasury_consolidate.mount(treasury_app)
    treasury_app.command("prove")(treasury_prove.prove)
    app.add_typer(treasury_app, name="treasury")
