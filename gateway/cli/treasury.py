"""`cage treasury balances | plan | inflows | top-up`: treasury staff, over the API.

`plan` shows what a rebalance would do and moves nothing. `top-up` takes two people: the first
proposes, the second runs the same command under another key.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import switches, treasury_prove, treasury_wallets
from gateway.cli.console import (
    USAGE,
    CliError,
    JsonOption,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.contract import contract_app
from gateway.cli.rates import rates_app
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

treasury_app = typer.Typer(no_args_is_help=True, help="Wallets and the operator's coins.")
treasury_app.add_typer(rates_app, name="rates")
treasury_app.add_typer(contract_app, name="contract")


@treasury_app.command("plan")
def plan(
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hot wallets against their bands. Moves nothing."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/wallets")

    hot = [row for row in call(work, api=api, key_id=key_id, key=key) if row.get("band")]
    if as_json:
        show_json({"items": hot})
        return
    rows = [
        (
            row["asset"],
            row["ledger"],
            row["band"]["min"],
            row["band"]["target"],
            row["band"]["max"],
            row["band"]["status"],
        )
        for row in hot
    ]
    show_table(("asset", "hot>", "min>", "target>", "max>", "status"), rows)
    outside = [row["asset"] for row in hot if row["band"]["status"] != "ok"]
    show_line(f"outside their band: {', '.join(outside)}" if outside else "all inside their bands")


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


@treasury_app.command("top-up")
def top_up(
    inflow: Annotated[str, typer.Argument(help="The inflow's id: inf_...")],
    target: Annotated[str, typer.Option("--as", help="capital, or clearing:BRAND.")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Book an inflow out of suspense; two people run the same command."""
    kind, _, brand = target.partition(":")
    if not (target == "capital" or (kind == "clearing" and brand)):
        raise CliError(f"--as {target}: give capital, or clearing:BRAND", code=USAGE)

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        # The key is one per (inflow, target, person): a repeat gives the stored answer.
        return await client.post(
            f"/v1/inflows/{inflow}/assign",
            {"as": target},
            idempotency_key=f"top-up:{inflow}:{target}:{client.key_id}",
        )

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    elif answer["state"] == "done":
        show_line(f"{inflow} is booked as {target}")
    else:
        show_line(f"{inflow}: proposed as {target}; a second person now runs the same command")


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    switches.mount(treasury_app)
    treasury_wallets.mount(treasury_app)
    treasury_app.command("prove")(treasury_prove.prove)
    app.add_typer(treasury_app, name="treasury")
