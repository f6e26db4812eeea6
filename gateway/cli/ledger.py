"""`cage ledger trial-balance` and the group of all ledger commands, over the API."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import adjustments, ledger_books, ledger_days, ledger_reconcile
from gateway.cli.console import FAILED, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

ledger_app = typer.Typer(no_args_is_help=True, help="The books.")


@ledger_app.command("trial-balance")
def trial_balance(
    at: Annotated[str | None, typer.Option(help="RFC 3339 moment; now without it.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every account's balance, and whether debits equal credits. Exit 1 when they do not."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get("/v1/ledger/trial_balance", {"at": at} if at else {})

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    else:
        rows = [
            (row["account"], row["asset"], row["side"], row["balance"])
            for row in answer["accounts"]
        ]
        show_table(("account", "asset", "side", "balance>"), rows)
        show_line("balanced" if answer["balanced"] else "NOT BALANCED")
    if not answer["balanced"]:
        raise typer.Exit(FAILED)


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    ledger_books.mount(ledger_app)
    ledger_reconcile.mount(ledger_app)
    ledger_days.mount(ledger_app)
    adjustments.mount(ledger_app)
    app.add_typer(ledger_app, name="ledger")
