"""`cage treasury plan | apply | decline`: moves between hot and cold, by people.

`plan` shows what would bring hot wallets into their bands; `--propose` makes it a request. `apply`
signs one request, in the very words that the signer reads: above the limit a second person runs
the same command. Nothing is moved by any of them: payouts do that.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import ConfirmOption, say_twice
from gateway.cli.console import USAGE, CliError, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call, change

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/rebalances"
OVER = ("done", "failed", "declined", "cancelled")
WORDS = ("direction", "network", "asset", "address", "amount", "valid_until")

MoveArgument = Annotated[str, typer.Argument(help="The move's id: reb_...")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done; store nothing.")
]


def plan(
    asset: Annotated[
        str | None, typer.Argument(help="Only this one, such as btc:BTC; without it, all.")
    ] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Make it a request that people approve.")
    ] = False,
    direction: Annotated[
        str | None,
        typer.Option("--direction", help="hot_to_cold, warm_to_hot, ...; with --amount."),
    ] = None,
    amount: Annotated[
        str | None, typer.Option("--amount", help="In asset units, instead of what the band asks.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept for ever. Required to propose.")
    ] = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hot wallets against their bands, and open moves. Moves nothing."""
    if propose and not reason:
        raise CliError("--propose: say why with --reason", code=USAGE)
    if amount is not None and (asset is None or direction is None):
        raise CliError("--amount: name the asset and its --direction", code=USAGE)
    given = {"asset": asset, "direction": direction, "amount": amount, "reason": reason}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    body["propose"] = propose and not dry_run

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        wallets = await all_pages(client, "/v1/wallets")
        found = await client.post(f"{PATH}/plan", body, idempotency_key=client.new_key("plan"))
        rows = await all_pages(client, PATH)
        hot = [row for row in wallets if row.get("band")]
        return {
            "items": [row for row in hot if asset in (None, row["asset"])],
            "moves": found["items"],
            "open": [row for row in rows if row["state"] not in OVER],
        }

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**answer, "dry_run": dry_run} if propose else answer)
        return
    _show_wallets(answer["items"])
    for item in answer["moves"]:
        _show_move(item, is_new=body["propose"])
    shown = {item["id"] for item in answer["moves"]}
    for row in answer["open"]:
        if row["id"] not in shown:
            _show_move(row, is_new=False)


def apply(
    move: MoveArgument,
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a proposed move; above its limit a second person runs the same command."""

    async def look(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get(f"{PATH}/{move}")

    row = call(look, api=api, key_id=key_id, key=key)
    words = {"rebalance_id": move, **{name: row[name] for name in WORDS}}
    if dry_run:
        _show_dry(words, row, as_json=as_json)
        return
    what = f"{row['amount']} {row['asset']} {row['direction']} to {row['address']}"
    say_twice(what, row["amount"], confirm_amount)
    # The signature covers these words; a repeat by the same person changes nothing.
    path = f"{PATH}/{move}/approve"
    _show(change(path, words, "apply", api=api, key_id=key_id, key=key), as_json=as_json)


def decline(
    move: MoveArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say no before anything is built; one person."""
    said = {"reason": reason, "dry_run": dry_run}
    path = f"{PATH}/{move}/decline"
    row = change(path, said, "decline", api=api, key_id=key_id, key=key)
    if dry_run and not as_json:
        show_line(f"{move} is {row['state']} and can be declined; nothing was changed")
        return
    _show({**row, "dry_run": True} if dry_run else row, as_json=as_json)


def mount(app: typer.Typer) -> None:
    """Add the commands to the group of the treasury."""
    for name, command in (("plan", plan), ("apply", apply), ("decline", decline)):
        app.command(name)(command)


def _show_wallets(hot: list[Mapping[str, Any]]) -> None:
    rows = [
        (
            row["wallet"],
            row["asset"],
            row["ledger"],
            row["band"]["min"],
            row["band"]["target"],
            row["band"]["max"],
            row["band"]["status"],
        )
        for row in hot
    ]
    show_table(("wallet", "asset", "books>", "min>", "target>", "max>", "status"), rows)
    outside = [row["asset"] for row in hot if row["band"]["status"] != "ok"]
    show_line(f"outside their band: {', '.join(outside)}" if outside else "all inside their bands")


def _show_move(item: Mapping[str, Any], *, is_new: bool) -> None:
    what = f"{item['amount']} {item['asset']} {item['direction']} ({item['reason']})"
    if item["id"] is None:
        show_line(f"would move {what}; ask for it with --propose --reason WHY")
        return
    show_line(f"{item['id']}: {what} is {item['state']}{', proposed now' if is_new else ''}")
    if item["state"] == "proposed":
        show_line(f"people approve it with: cage treasury apply {item['id']}")


def _show_dry(words: Mapping[str, str], row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json({"would_sign": words, "stands": row, "dry_run": True})
        return
    show_line(f"would sign: {' '.join(words.values())}")
    show_line(f"signed by {', '.join(row['signed_by']) or 'nobody'}, is {row['state']}")


def _show(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(row)
        return
    show_line(f"{row['id']}: {row['amount']} {row['asset']} {row['direction']} is {row['state']}")
    show_line(f"signed by {', '.join(row['signed_by']) or 'nobody'} of {row['people_needed']}")
    if row["state"] == "proposed":
        show_line("another person now runs the same command")
    elif row["state"] == "approved":
        show_line("payouts carry it out next")
