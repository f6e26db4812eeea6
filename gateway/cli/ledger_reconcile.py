"""`cage ledger reconcile | breaks | explain`: books against chains, over the API."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import FAILED, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call, change, until

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

ANSWER_SECONDS = 120.0  # every watcher answers at its next block or poll


def reconcile(
    run: Annotated[
        str | None, typer.Argument(help="A stored comparison (rec_...); a new one without it.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network; all without it.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the books with the chains at a block. Exit 1 when there is a break."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        if run is not None:
            return await client.get(f"/v1/reconciliations/{run}")
        return await _ask(client, network)

    answer = call(work, api=api, key_id=key_id, key=key)
    silent = [row for row in answer["networks"] if row["error"] or not row["is_answered"]]
    if as_json:
        show_json(answer)
    else:
        _show_run(answer)
    if answer["breaks"] or silent:
        raise typer.Exit(FAILED)


async def _ask(client: "StaffClient", network: str | None) -> Mapping[str, Any]:
    run = await client.post("/v1/reconciliations", {"network": network} if network else {})
    return await until(
        client,
        run,
        f"/v1/reconciliations/{run['id']}",
        lambda found: found["state"] == "done",
        seconds=ANSWER_SECONDS,
        hint="does a watcher run for each network?",
    )


def breaks(
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    asset: Annotated[str | None, typer.Option(help="btc:BTC, eth:USDT, ...")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the newest comparison of each network found. Exit 1 when there is anything."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        named = {"network": network, "asset": asset}
        return await client.get(
            "/v1/reconciliation_breaks", {name: value for name, value in named.items() if value}
        )

    items = call(work, api=api, key_id=key_id, key=key)["items"]
    if as_json:
        show_json(items)
    elif not items:
        show_line("no breaks: the books agree with the chains")
    else:
        rows = [
            (
                row["id"],
                row["kind"],
                row["subject"],
                row["difference"],
                row["opened_at"],
                row["explanation"],
            )
            for row in items
        ]
        show_table(("break", "kind", "subject", "difference>", "since", "explained"), rows)
        _show_places(items)
    if items:
        raise typer.Exit(FAILED)


def explain(
    break_id: Annotated[str, typer.Argument(metavar="BREAK", help="brk_...")],
    reason: Annotated[str, typer.Option("--reason", help="What it is; both say the same.")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a difference is; a second person who says the same lets payouts start again."""
    said = {"explanation": reason}
    path = f"/v1/reconciliation_breaks/{break_id}/explain"
    answer = change(path, said, "explain", api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    elif answer["item"]["explanation"] is None:
        show_line("waits for a second person, who says the same")
    else:
        item = answer["item"]
        show_line(f"explained by {item['proposed_by']} and {item['approved_by']}")


def mount(ledger_app: typer.Typer) -> None:
    """Add the commands to the group."""
    for name, command in (("reconcile", reconcile), ("breaks", breaks), ("explain", explain)):
        ledger_app.command(name)(command)


def _show_run(run: Mapping[str, Any]) -> None:
    rows = [
        (row["network"], row["height"], row["block_hash"], row["error"]) for row in run["networks"]
    ]
    show_table(("network", "height>", "block", "error"), rows)
    if run["breaks"]:
        columns = [name for name in run["breaks"][0] if name != "details"]
        show_table(columns, [[row.get(name) for name in columns] for row in run["breaks"]])
        _show_places(run["breaks"])
    elif not any(row["error"] or not row["is_answered"] for row in run["networks"]):
        show_line("no breaks: the books agree with the chains")


def _show_places(items: Sequence[Mapping[str, Any]]) -> None:
    """Where each break is: coin or address, and the tx where it is known."""
    rows = [
        (
            item["subject"],
            place.get("coin") or place.get("address") or place.get("block_hash"),
            place.get("txid") or " ".join(place.get("txids", ())),
            place.get("height"),
            place["amount_minor"],
        )
        for item in items
        for place in item["details"].get("places", ())
    ]
    if rows:
        show_table(("subject", "where", "tx", "height>", "minor>"), rows)
