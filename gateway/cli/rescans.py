"""`cage deposits rescan NETWORK`: look at blocks again that may hold a missing deposit.

A client of the API like every staff command. With `--from` it asks for a range, with `--cancel` it
ends one, without either it lists what was asked for and how far that is. What is recorded stays; a
range may be asked for again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import USAGE, CliError, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient


def rescan(
    network: Annotated[str, typer.Argument(help="As configured, e.g. btc.")],
    from_height: Annotated[
        int | None, typer.Option("--from", help="The first block; nothing: list.")
    ] = None,
    to_height: Annotated[
        int | None, typer.Option("--to", help="The last one; else where the watcher stands.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept for ever.")] = None,
    cancel: Annotated[
        str | None, typer.Option("--cancel", help="End this rescan; what it found stays.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be looked at; ask for nothing.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at blocks again; deposits that are missing are found and credited as usual."""
    path = f"/v1/networks/{network}/rescans"
    if cancel is not None:
        if from_height is not None or to_height is not None or dry_run:
            raise CliError("--cancel takes --reason only", hint="--cancel ID", code=USAGE)
        _cancel(f"{path}/{cancel}/cancel", reason, api, key_id, key, as_json=as_json)
        return
    if from_height is None:
        if to_height is not None or reason is not None or dry_run:
            raise CliError("--from is missing", hint="--from HEIGHT", code=USAGE)

        async def listed(client: "StaffClient") -> list[Mapping[str, Any]]:
            return await all_pages(client, path)

        _show(call(listed, api=api, key_id=key_id, key=key), as_json=as_json)
        return
    if not (reason or "").strip():
        raise CliError("a reason is required", hint='--reason "why"', code=USAGE)
    body: dict[str, int | str] = {"from_height": from_height, "reason": str(reason)}
    if to_height is not None:
        body["to_height"] = to_height

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        if dry_run:
            return await _standing(client, network, from_height, to_height)
        return await client.post(path, body, idempotency_key=client.new_key("rescan"))

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**answer, "dry_run": dry_run})
    elif dry_run:
        show_line(
            f"{network} stands at {answer['height']}; {answer['blocks']} blocks would be looked"
            " at again"
        )
    else:
        show_line(
            f"{answer['id']}: {network} {answer['from_height']} to {answer['to_height']} is looked"
            f" at again; see: cage deposits rescan {network}"
        )


def _cancel(
    path: str,
    reason: str | None,
    api: str | None,
    key_id: str | None,
    key: Path | None,
    *,
    as_json: bool,
) -> None:
    if not (reason or "").strip():
        raise CliError("a reason is required", hint='--reason "why"', code=USAGE)

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.post(path, {"reason": str(reason)})

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    else:
        show_line(f"{answer['id']}: ended at {answer['next_height']}, {answer['found']} found")


async def _standing(
    client: "StaffClient", network: str, from_height: int, to_height: int | None
) -> dict[str, Any]:
    """Where the watcher stands, and how many blocks the range has."""
    networks = await all_pages(client, "/v1/networks")
    found = next((row for row in networks if row["network"] == network), None)
    if found is None or found["height"] is None:
        raise CliError(f"nobody follows {network}", hint="is its watcher running?")
    height = int(found["height"])
    end = height if to_height is None else to_height
    if not 0 <= from_height <= end <= height:
        raise CliError(f"{from_height} to {end} is not below {height}", code=USAGE)
    return {"network": network, "height": height, "blocks": end - from_height + 1}


def _show(found: list[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        show_json({"items": found})
        return
    if not found:
        show_line("nothing was looked at again")
        return
    rows = [
        (
            row["id"],
            f"{row['from_height']} to {row['to_height']}",
            row["state"],
            str(row["next_height"]),
            str(row["found"]),
            row["asked_by"],
            row["created_at"],
            row["failure"] or row["waits_for"] or row["cancel_reason"] or row["reason"],
        )
        for row in found
    ]
    show_table(("rescan", "blocks", "state", "next", "found", "by", "at", "note"), rows)
