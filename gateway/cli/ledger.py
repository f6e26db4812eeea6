"""`cage ledger trial-balance | reconcile` and the group of all ledger commands, over the API."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import adjustments, ledger_books
from gateway.cli.console import (
    FAILED,
    CliError,
    JsonOption,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

ANSWER_SECONDS = 120.0  # every watcher answers at its next block or poll
POLL_SECONDS = 0.5

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


@ledger_app.command("reconcile")
def reconcile(
    network: Annotated[str | None, typer.Option(help="Only this network; all without it.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the books with the chains at a block. Exit 1 when there is a break."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        body = {"network": network} if network else {}
        run = await client.post("/v1/reconciliations", body)
        deadline_seconds = client.clock.monotonic_seconds() + ANSWER_SECONDS
        while run["state"] != "done":
            if client.clock.monotonic_seconds() > deadline_seconds:
                raise CliError(
                    f"{run['id']} is still running after {ANSWER_SECONDS:.0f} s",
                    hint="does a watcher run for each network?",
                )
            await client.clock.sleep(POLL_SECONDS)
            run = await client.get(f"/v1/reconciliations/{run['id']}")
        return run

    run = call(work, api=api, key_id=key_id, key=key)
    silent = [row["network"] for row in run["networks"] if row["error"] or not row["is_answered"]]
    if as_json:
        show_json(run)
    else:
        rows = [
            (row["network"], row["height"], row["block_hash"], row["error"])
            for row in run["networks"]
        ]
        show_table(("network", "height>", "block", "error"), rows)
        if run["breaks"]:
            columns = list(dict.fromkeys(name for row in run["breaks"] for name in row))
            show_table(columns, [[row.get(name) for name in columns] for row in run["breaks"]])
        elif not silent:
            show_line("no breaks: the books agree with the chains")
    if run["breaks"] or silent:
        raise typer.Exit(FAILED)


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    ledger_books.mount(ledger_app)
    adjustments.mount(ledger_app)
    app.add_typer(ledger_app, name="ledger")
