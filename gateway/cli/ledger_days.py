"""`cage ledger close-day`: the daily close as a table, JSON or CSV, over the API."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import journal_file
from gateway.cli.console import (
    FAILED,
    USAGE,
    CliError,
    JsonOption,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

_CSV = ("account", "asset", "side", "opening_minor", "debits_minor", "credits_minor")


def close_day(
    day: Annotated[str | None, typer.Argument(help="YYYY-MM-DD in UTC; yesterday without.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Accounts as CSV.")] = False,
    out: Annotated[Path | None, typer.Option(help="A file; stdout without it.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only: does the journal still say the same?")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a UTC day, or show what stands. Exit 1 when its totals or its check do not hold."""
    if as_csv and as_json:
        raise CliError("--csv and --json exclude each other", hint="give one", code=USAGE)

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        wanted = day or str((client.clock.now().astimezone(UTC) - timedelta(days=1)).date())
        if check:
            return await client.get(f"/v1/ledger/days/{wanted}/check")
        return await client.post(f"/v1/ledger/days/{wanted}/close", {})

    answer = call(work, api=api, key_id=key_id, key=key)
    if check:
        show_json(answer) if as_json else show_line(
            f"{answer['day']} {'holds' if answer['holds'] else 'DOES NOT HOLD'}: {answer['sha256']}"
        )
    elif as_json and out is None:
        show_json(answer)
    elif as_csv or out is not None:
        _write(_as_csv(answer) if as_csv else json.dumps(answer, indent=2) + "\n", out)
    else:
        _show(answer)
    if not (answer["holds"] if check else _is_balanced(answer)):
        raise typer.Exit(FAILED)


def mount(ledger_app: typer.Typer) -> None:
    """Add the command to the group."""
    ledger_app.command("close-day")(close_day)


def _is_balanced(answer: Mapping[str, Any]) -> bool:
    return all(row["balanced"] for row in answer["report"]["totals"])


def _as_csv(answer: Mapping[str, Any]) -> str:
    """Accounts, then one line with the day's hash."""
    columns = (*_CSV, "closing_minor")
    lines = [columns, *([row[name] for name in columns] for row in answer["report"]["accounts"])]
    lines.append(("#sha256", answer["sha256"], answer["day"]))
    return "".join(journal_file.csv_line([str(cell) for cell in line]) for line in lines)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{out} cannot be written ({error.strerror})") from error
    show_line(f"written to {out}")


def _show(answer: Mapping[str, Any]) -> None:
    report = answer["report"]
    columns = (*_CSV, "closing_minor")
    names = ("account", "asset", "side", "opening>", "debits>", "credits>", "closing>")
    show_table(names, [[row[name] for name in columns] for row in report["accounts"]])
    show_table(
        ("movement", "account", "debits>", "credits>", "entries>"),
        [
            (r["kind"], r["account"], r["debits_minor"], r["credits_minor"], r["entries"])
            for r in report["movements"]
        ],
    )
    show_table(
        ("network", "comparison", "height>", "breaks>"),
        [
            (r["network"], r["state"], r.get("height"), len(r["breaks"]))
            for r in report["reconciliations"]
        ],
    )
    show_line(f"{answer['day']} closed by {answer['closed_by']}: sha256 {answer['sha256']}")
