"""`cage treasury consolidate` and `consolidations`: own coins merged or split on a person's word.

Each run asks for a dry run first and shows what it comes to; then the person types the most that it
may cost, and asks. Payouts answers, with the bounds of its policy; nothing is moved from here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import ConfirmOption, say_twice
from gateway.cli.console import REFUSED, CliError, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import (
    ApiOption,
    KeyFileOption,
    KeyIdOption,
    all_pages,
    call,
    until,
)

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/consolidations"
ANSWER_SECONDS = 60.0  # payouts answers in its next pass
WHY = {
    "nothing_to_move": "there are no coins that this would make fewer, or more",
    "fee_above_asked": "it costs more than you allow",
    "payouts_wait": "withdrawals that wait need these coins",
    "fee_capital": "it costs more than a tenth of the fee capital, or than a tx may",
    "move_open": "another merge or split is on its way",
    "stopped": "building, signing or sending is stopped: cage treasury switch",
    "rate_above_maximum": "the rate is above [coins] rate_max of the policy",
    "network_fee_too_high": "the network asks more than the policy allows",
    "fees_unknown": "nobody has sampled fees lately: does the watcher run?",
    "no_change_address": "the signer has verified no change address",
    "no_policy": "the policy has no [coins] for this network",
    "expired": "payouts came to it too late",
}


def consolidate(
    network: Annotated[str, typer.Argument(help="A network with coins, such as btc.")],
    split: Annotated[
        bool, typer.Option("--split", help="Split the largest coin instead of merging small ones.")
    ] = False,
    max_fee: Annotated[
        str | None,
        typer.Option("--max-fee", help="The most that it may cost; else what the dry run says."),
    ] = None,
    confirm_amount: ConfirmOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show coins, fee and what it saves; move nothing.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the hot wallet's small coins into one now, instead of in a cheap hour."""
    body = {"network": network, "purpose": "fan_out" if split else "consolidate"}
    options = {"api": api, "key_id": key_id, "key": key}
    found = _ask(body, options)
    if not as_json:
        _show(found)
    if dry_run:
        if as_json:
            show_json(found)
        return
    fee_max = max_fee or str(found["fee"])
    what = f"{_what(found)} for at most {fee_max}"
    say_twice(what, fee_max, confirm_amount)
    made = _ask({**body, "fee_max": fee_max}, options)
    if as_json:
        show_json(made)
    else:
        show_line(f"{made['id']}: it is planned, and costs {made['fee']}")
        show_line("payouts sign and send it next: cage treasury consolidations")


def consolidations(
    network: Annotated[str | None, typer.Option("--network", help="Only this network.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only in this state.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merges and splits of own coins: by policy, and on a person's word; newest first."""
    named = {"network": network, "state": state}
    query = {name: value for name, value in named.items() if value is not None}

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, PATH, query)

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    names = (
        "id", "network", "purpose", "state", "code", "coins", "parts", "amount", "fee",
        "requested_by", "tx_state", "txid",
    )  # fmt: skip
    head = (
        "move", "network", "what", "state", "why not", "coins>", "parts>", "amount>", "fee>",
        "by", "tx", "txid",
    )  # fmt: skip
    rows = [tuple(row[name] for name in names) for row in found if not row["dry_run"]]
    show_table(head, rows)


def _ask(body: Mapping[str, str], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What payouts answers. Raises CliError, and with `REFUSED` for a no."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        asked = await client.post(PATH, body, idempotency_key=client.new_key("consolidate"))
        return await until(
            client,
            asked,
            f"{PATH}/{asked['id']}",
            lambda found: found["state"] != "asked",
            seconds=ANSWER_SECONDS,
            hint="do payouts of this network run? cage treasury consolidations",
        )

    found = call(work, **options)
    if found["state"] == "refused":
        code = found["code"]
        raise CliError(
            f"{found['id']}: nothing was moved: {WHY.get(code, code)} ({code})",
            hint=f"it would cost {found['fee']}" if found["fee"] else "",
            code=REFUSED,
        )
    return found


def _what(found: Mapping[str, Any]) -> str:
    verb = "merge" if found["purpose"] == "consolidate" else "split"
    return f"{verb} {found['coins']} coins of {found['amount']} {found['asset']}"


def _show(found: Mapping[str, Any]) -> None:
    rate, even = found["rate_per_kvb"], found["break_even_per_kvb"]
    show_line(f"{_what(found)} into {found['parts']}, fee {found['fee']} ({_per_vb(rate)})")
    if even is not None:
        saved = found["saves_vb"]
        show_line(
            f"saves later payouts {saved} vB: it pays off where they pay more than {_per_vb(even)}"
        )


def _per_vb(rate_per_kvb: int) -> str:
    return f"{rate_per_kvb // 1_000}.{rate_per_kvb % 1_000:03d} sat/vB"


def mount(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("consolidate")(consolidate)
    app.command("consolidations")(consolidations)
