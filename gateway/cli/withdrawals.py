"""`cage withdrawals`: what support sees, and what staff decide about one, over the API.

A decision is a signature of the person who runs the command: what it names (payment, dead txids,
tx) is read from the API first and shown, and the signer reads the same bytes later.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import (
    REFUSED,
    USAGE,
    CliError,
    JsonOption,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call, change

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

WithdrawalArgument = Annotated[str, typer.Argument(help="The withdrawal's id: wd_...")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept for ever.")]

withdrawals_app = typer.Typer(no_args_is_help=True, help="Payouts.")


@withdrawals_app.callback()
def group() -> None:
    """Payouts."""


@withdrawals_app.command("show")
def show(
    withdrawal: Annotated[str, typer.Argument(help="The withdrawal's id: wd_...")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """One withdrawal and everything that happened to it."""

    async def work(client: "StaffClient") -> tuple[Mapping[str, Any], ...]:
        path = f"/v1/withdrawals/{withdrawal}"
        found = await client.get(path)
        return found, await client.get(f"{path}/timeline"), await client.get(f"{path}/decisions")

    found, changes, decided = call(work, api=api, key_id=key_id, key=key)
    timeline, signatures = changes["items"], decided["signatures"]
    if as_json:
        show_json({**found, "timeline": timeline, "decisions": decided})
        return
    names = (
        "id", "request_id", "brand", "player_id", "state", "code", "asset", "amount", "address",
        "txid", "fee_class", "promise_at", "valid_until",
    )  # fmt: skip
    show_table(("field", "value"), [(name, found.get(name)) for name in names])
    show_line("")
    rows = [(row["at"], row["state"], row["actor"], row["reason"]) for row in timeline]
    show_table(("at", "state", "actor", "reason"), rows)
    if decided["approvals_missing"]:
        show_line("")
        show_line(f"{decided['limit']}: {decided['approvals_missing']} more must approve")
    if signatures:
        show_line("")
        signed = [(row["at"], row["action"], row["person"], row["round"]) for row in signatures]
        show_table(("signed at", "action", "person", "version"), signed)


@withdrawals_app.command("list")
def list_(
    state: Annotated[
        str | None, typer.Option("--state", help="One state, such as pending_approval.")
    ] = None,
    player: Annotated[str | None, typer.Option("--player", help="One player's.")] = None,
    asset: Annotated[str | None, typer.Option("--asset", help="One asset, as btc:BTC.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdrawals, newest first."""
    named = {"state": state, "player_id": player, "asset": asset}
    query = {name: value for name, value in named.items() if value is not None}

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/withdrawals", query)

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    names = ("brand", "player_id", "state", "code", "asset", "amount", "created_at", "promise_at")
    rows = [(row["id"], *(row[name] for name in names)) for row in found]
    show_table(("withdrawal", *names), rows)


@withdrawals_app.command("approve")
def approve(
    withdrawal: WithdrawalArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Agree to it as it stands: over a limit, or held."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        found = await client.get(f"/v1/withdrawals/{withdrawal}")
        names = ("brand", "request_id", "asset", "address", "amount")
        return await _decide(client, found, "approve", {name: found[name] for name in names})

    _tell(call(work, api=api, key_id=key_id, key=key), as_json=as_json)


@withdrawals_app.command("decline")
def decline(
    withdrawal: WithdrawalArgument,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept for ever. Not with --dead.")
    ] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Every tx of it is dead: give the money back (two).")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do not pay it: what nothing was signed for, or with --dead what can never be mined."""
    if dead == (reason is not None):
        raise CliError("give --reason, or --dead", code=USAGE)

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        if dead:
            return await _about_dead(client, withdrawal, "decline", "decline_dead")
        key = client.new_key("decline")
        path = f"/v1/withdrawals/{withdrawal}/decline"
        return await client.post(path, {"reason": reason}, idempotency_key=key)

    _tell(call(work, api=api, key_id=key_id, key=key), as_json=as_json)


@withdrawals_app.command("expedite")
def expedite(
    withdrawal: WithdrawalArgument,
    reason: ReasonOption,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put it on the urgent class."""
    said = {"reason": reason}
    path = f"/v1/withdrawals/{withdrawal}/expedite"
    _tell(change(path, said, "expedite", api=api, key_id=key_id, key=key), as_json=as_json)


@withdrawals_app.command("reissue")
def reissue(
    withdrawal: WithdrawalArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every tx of it is dead: pay it anew. Two people run the same command."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await _about_dead(client, withdrawal, "reissue", "reissue")

    _tell(call(work, api=api, key_id=key_id, key=key), as_json=as_json)


@withdrawals_app.command("abort")
def abort(
    withdrawal: WithdrawalArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace its tx by one that pays nobody. Two people run the same command."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        found = await client.get(f"/v1/withdrawals/{withdrawal}")
        if found["txid"] is None:
            raise CliError(
                f"{withdrawal} has no transaction",
                hint="cage withdrawals decline WD --reason TEXT",
                code=REFUSED,
            )
        names = ("brand", "request_id", "txid")
        return await _decide(client, found, "abort", {name: found[name] for name in names})

    _tell(call(work, api=api, key_id=key_id, key=key), as_json=as_json)


async def _about_dead(
    client: "StaffClient", withdrawal: str, route: str, action: str
) -> Mapping[str, Any]:
    found = await client.get(f"/v1/withdrawals/{withdrawal}")
    decided = await client.get(f"/v1/withdrawals/{withdrawal}/decisions")
    body = {name: found[name] for name in ("brand", "request_id")}
    if not decided["dead_txids"]:
        raise CliError(f"nothing was signed for {withdrawal}", code=REFUSED)
    return await _decide(
        client, found, route, {**body, "dead_txids": decided["dead_txids"]}, action=action
    )


async def _decide(
    client: "StaffClient",
    found: Mapping[str, Any],
    route: str,
    body: Mapping[str, Any],
    *,
    action: str | None = None,
) -> Mapping[str, Any]:
    """Sign what is shown; a repeat under another key is the same signature again."""
    path = f"/v1/withdrawals/{found['id']}/{route}"
    key = client.new_key(route)
    return await client.post(path, {"action": action or route, **body}, idempotency_key=key)


def _tell(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    found = answer["withdrawal"]
    what = f"{found['id']}: {found['amount']} {found['asset']} to {found['address']}"
    show_line(f"{what} is {found['state']}" + (f" ({found['code']})" if found["code"] else ""))
    show_line(f"signed by {', '.join(answer['signed_by'])}")
    match answer["waits_for"]:
        case "person":
            show_line("another person now runs the same command")
        case "payouts":
            show_line("payouts carry it out next: cage withdrawals show " + str(found["id"]))


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(withdrawals_app, name="withdrawals")
