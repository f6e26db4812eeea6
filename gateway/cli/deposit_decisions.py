"""`cage deposits release | reject | refund`: what compliance decides about a deposit on hold.

Two people run the same command under their own keys for a release and for a refund: the first
proposes, the second agrees. The signer reads what both signed about a refund, so that its words are
the same: the second person names deposit and address again, and takes the moment of the first.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import ConfirmOption, say_twice
from gateway.cli.console import REFUSED, CliError, JsonOption, show_json, show_line
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call, change

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

DAYS_MAX = 7  # the signer counts no signature of people that is older

DepositArgument = Annotated[str, typer.Argument(help="The deposit's id: dep_...")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept for ever.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be signed; sign nothing.")
]


def release(
    deposit: DepositArgument,
    reason: ReasonOption,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Credit a deposit that is on hold and final; the same command by a second person does it."""
    answer = change(
        f"/v1/deposits/{deposit}/release",
        {"reason": reason},
        "release",
        api=api,
        key_id=key_id,
        key=key,
    )
    _show(answer, as_json=as_json)


def reject(
    deposit: DepositArgument,
    reason: ReasonOption,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a deposit that is on hold, below the minimum or unsupported; one person."""
    answer = change(
        f"/v1/deposits/{deposit}/reject",
        {"reason": reason},
        "reject",
        api=api,
        key_id=key_id,
        key=key,
    )
    _show(answer, as_json=as_json)


def refund(
    deposit: DepositArgument,
    address: Annotated[str, typer.Argument(help="Where it goes; the same from both people.")],
    days: Annotated[
        int, typer.Option("--days", min=1, max=DAYS_MAX, help="How long it may take to be signed.")
    ] = 2,
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a rejected deposit back, its fee out of the amount; two people, the same command."""

    async def read(client: "StaffClient") -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        found = await client.get(f"/v1/deposits/{deposit}")
        query = {"state": "pending_approval", "asset": str(found["asset"])}
        waiting = await all_pages(client, "/v1/withdrawals", query)
        return found, next((row for row in waiting if row["deposit_id"] == deposit), None)

    options: dict[str, Any] = {"api": api, "key_id": key_id, "key": key}
    found, standing = call(read, **options)
    if standing is not None and standing["address"] != address:
        raise CliError(
            f"another person wants it at {standing['address']}; nothing was signed",
            hint=f"cage withdrawals decline {standing['id']} --reason TEXT ends that",
            code=REFUSED,
        )
    body = {
        "action": "refund",
        "deposit_id": deposit,
        "asset": found["asset"],
        "address": address,
        "amount": found["amount"],
    }
    what = f"refund {body['amount']} {body['asset']} of {deposit} to {address}"
    if dry_run:
        _tell_dry(what, body, standing, as_json=as_json)
        return
    say_twice(what, body["amount"], confirm_amount)

    async def sign(client: "StaffClient") -> Mapping[str, Any]:
        until = client.clock.now() + timedelta(days=days)
        moment = f"{until:%Y-%m-%dT%H:%M:%SZ}" if standing is None else standing["valid_until"]
        return await client.post(
            f"/v1/deposits/{deposit}/refund",
            {**body, "valid_until": moment},
            idempotency_key=client.new_key("refund"),
        )

    _show_refund(call(sign, **options), as_json=as_json)


def _tell_dry(
    what: str, body: Mapping[str, Any], standing: Mapping[str, Any] | None, *, as_json: bool
) -> None:
    if as_json:
        show_json({"would_sign": body, "stands": standing, "dry_run": True})
        return
    show_line(f"would sign: {what}")
    show_line(
        "nobody has signed it yet; you would propose it"
        if standing is None
        else f"{standing['id']} waits for a second person until {standing['valid_until']}"
    )


def _show(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    found, approval = answer["deposit"], answer["approval"]
    show_line(f"{found['id']}: {found['amount']} {found['asset']} is {found['state']}")
    if approval is not None and approval["state"] == "pending_approval":
        show_line("another person of compliance now runs the same command")


def _show_refund(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    found, row = answer["deposit"], answer["withdrawal"]
    show_line(f"{found['id']}: {found['amount']} {found['asset']} is {found['state']}")
    show_line(f"{row['id']} to {row['address']} is {row['state']}")
    show_line(f"signed by {', '.join(answer['signed_by'])}")
    if row["state"] == "pending_approval":
        show_line("another person of compliance now runs the same command")
    else:
        show_line(f"payouts carry it out next: cage withdrawals show {row['id']}")
