"""`cage withdrawals show ID`: support, over the API."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

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

    async def work(client: "StaffClient") -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        found = await client.get(f"/v1/withdrawals/{withdrawal}")
        timeline = await client.get(f"/v1/withdrawals/{withdrawal}/timeline")
        return found, timeline["items"]

    found, timeline = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**found, "timeline": timeline})
        return
    names = (
        "id", "request_id", "brand", "player_id", "state", "code", "asset", "amount", "address",
        "txid", "fee_class", "promise_at", "valid_until",
    )  # fmt: skip
    show_table(("field", "value"), [(name, found.get(name)) for name in names])
    show_line("")
    rows = [(row["at"], row["state"], row["actor"], row["reason"]) for row in timeline]
    show_table(("at", "state", "actor", "reason"), rows)


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(withdrawals_app, name="withdrawals")
