"""`cage treasury contract deploy | fund | withdraw | decline | status`: the batch contract.

Two people run the same command under their own keys: the first proposes, the second agrees to the
very same words, and the signer reads both. Value stays in hot custody.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import ConfirmOption, say_twice
from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call, change

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/contract_setups"

contract_app = typer.Typer(
    no_args_is_help=True, help="The batch contract of an EVM network: set up by two people."
)

NetworkArgument = Annotated[str, typer.Argument(help="An EVM network, such as eth.")]
AssetArgument = Annotated[str, typer.Argument(help="An asset of it, such as eth:USDT.")]
AmountArgument = Annotated[str, typer.Argument(help="In asset units, such as 250.5.")]
ReferenceOption = Annotated[
    str, typer.Option("--reference", help="Your name for it, the same from both; used once.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be signed; sign nothing.")
]


@contract_app.command("deploy")
def deploy(
    network: NetworkArgument,
    reference: ReferenceOption,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create it; hot lane 0 owns it. Its address then goes into the settings of Cage and signer."""
    body = {"action": "deploy", "network": network, "reference": reference}
    _sign(body, dry_run=dry_run, as_json=as_json, api=api, key_id=key_id, key=key)


@contract_app.command("fund")
def fund(
    network: NetworkArgument,
    asset: AssetArgument,
    amount: AmountArgument,
    reference: ReferenceOption,
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """From hot lane 0 to the contract."""
    body = _moving("fund", network, asset, amount, reference)
    _sign_amount(
        body, confirm_amount, dry_run=dry_run, as_json=as_json, api=api, key_id=key_id, key=key
    )


@contract_app.command("withdraw")
def withdraw(
    network: NetworkArgument,
    asset: AssetArgument,
    amount: AmountArgument,
    reference: ReferenceOption,
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """From the contract back to hot lane 0."""
    body = _moving("withdraw", network, asset, amount, reference)
    _sign_amount(
        body, confirm_amount, dry_run=dry_run, as_json=as_json, api=api, key_id=key_id, key=key
    )


@contract_app.command("decline")
def decline(
    setup: Annotated[str, typer.Argument(help="cst_...")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say no before anything is built; one person."""
    said = {"reason": reason}
    path = f"{PATH}/{setup}/decline"
    _show(change(path, said, "decline", api=api, key_id=key_id, key=key), as_json=as_json)


@contract_app.command("status")
def status(
    network: NetworkArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set-ups of a network, newest first, and what to put into the settings."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, PATH)

    found = [
        row for row in call(work, api=api, key_id=key_id, key=key) if row["network"] == network
    ]
    if as_json:
        show_json({"items": found})
        return
    names = ("id", "reference", "action", "asset", "amount", "state", "code", "txid")
    head = ("set-up", "reference", "action", "asset", "amount>", "state", "code", "txid")
    show_table(head, [tuple(row[name] for name in names) for row in found])
    for row in found:
        _tell_setting(row)


def _moving(action: str, network: str, asset: str, amount: str, reference: str) -> dict[str, str]:
    return {
        "action": action,
        "network": network,
        "reference": reference,
        "asset": asset,
        "amount": amount,
    }


def _sign_amount(
    body: Mapping[str, str], given: str | None, *, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Sign once the amount was said a second time: typed, or as an option where nobody types."""
    if not dry_run:
        what = f"{body['action']} {body['amount']} {body['asset']}"
        say_twice(what, body["amount"], given)
    _sign(body, dry_run=dry_run, as_json=as_json, **options)


def _sign(body: Mapping[str, str], *, dry_run: bool, as_json: bool, **options: Any) -> None:
    async def work(client: "StaffClient") -> Mapping[str, Any]:
        if dry_run:
            subject = (body["network"], body["reference"])
            rows = await all_pages(client, PATH)
            stands = next((r for r in rows if (r["network"], r["reference"]) == subject), None)
            return {"would_sign": body, "stands": stands}
        # The signature covers the body; a repeat by the same person changes nothing.
        return await client.post(PATH, body, idempotency_key=client.new_key("setup"))

    answer = call(work, **options)
    if not dry_run:
        _show(answer, as_json=as_json)
    elif as_json:
        show_json({**answer, "dry_run": True})
    else:
        stands = answer["stands"]
        show_line(f"would sign: {' '.join(body.values())}")
        by = f"signed by {', '.join(stands['signed_by'])}, is {stands['state']}" if stands else ""
        show_line(by or "nobody has signed it yet; you would propose it")


def _show(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(row)
        return
    what = " ".join(str(row[name]) for name in ("action", "amount", "asset") if row[name])
    show_line(f"{row['id']}: {what} on {row['network']} ({row['reference']}) is {row['state']}")
    show_line(f"signed by {', '.join(row['signed_by'])}")
    if row["state"] == "proposed":
        show_line("another person now runs the same command")
    elif row["state"] == "approved":
        show_line(f"payouts carry it out next: cage treasury contract status {row['network']}")
    _tell_setting(row)


def _tell_setting(row: Mapping[str, Any]) -> None:
    if row["contract"] is None or row["is_in_force"]:
        return
    show_line(f'put in force: networks.{row["network"]}.batch_contract = "{row["contract"]}"')
    show_line(
        f"and in signer.toml [networks.{row['network']}.batch_contract] address, with code_hash"
    )
