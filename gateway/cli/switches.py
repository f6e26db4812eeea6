"""`cage treasury switch`, `approvals`, `alarms`, `searches`: stop, start, what waits for people.

`switch SCOPE ACTION stop` takes one person and acts at once; `start` takes two, who run the same
command under their own keys. Without arguments `switch` lists what is stopped.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import USAGE, CliError, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

ACTIONS = ("all", "accept", "credit", "build", "sign", "broadcast", "sweep")
STATES = {"stop": "stopped", "start": "running"}

ReorgOption = Annotated[
    int | None,
    typer.Option(
        "--accept-reorg-depth",
        min=1,
        help="With start of all of a network: blocks that a reorg may undo once.",
    ),
]
ReversalsOption = Annotated[
    int | None,
    typer.Option(
        "--accept-reversals",
        min=1,
        help="With start of all of a network: deposits that one step may reverse once.",
    ),
]
ReversalsValueOption = Annotated[
    str | None,
    typer.Option(
        "--accept-reversals-value",
        help="With --accept-reversals: the most that they may be worth, in the reference currency.",
    ),
]


def switch(
    scope: Annotated[
        str | None, typer.Argument(help="network:btc, or asset:eth:USDT; nothing: list.")
    ] = None,
    action: Annotated[str | None, typer.Argument(help=f"One of: {', '.join(ACTIONS)}.")] = None,
    change: Annotated[str | None, typer.Argument(help="stop, or start.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept for ever.")] = None,
    accept_reorg_depth: ReorgOption = None,
    accept_reversals: ReversalsOption = None,
    accept_reversals_value: ReversalsValueOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop something at once (one person), start it again (two), or list what is stopped."""
    if scope is None:

        async def listed(client: "StaffClient") -> list[Mapping[str, Any]]:
            return await all_pages(client, "/v1/switches")

        _show_switches(call(listed, api=api, key_id=key_id, key=key), as_json=as_json)
        return
    body = _body(scope, action, change, reason)
    if accept_reorg_depth is not None:
        body["accept_reorg_depth"] = accept_reorg_depth
    if accept_reversals is not None:
        body["accept_reversals"] = accept_reversals
    if accept_reversals_value is not None:
        body["accept_reversals_value"] = accept_reversals_value

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        if dry_run:
            return await _standing(client, body)
        # Each run is a decision of its own; a repeat of it finds what it wants already done.
        return await client.post("/v1/switches", body, idempotency_key=client.new_key("switch"))

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**answer, "dry_run": dry_run})
    else:
        show_line(_sentence(body, answer, dry_run=dry_run))


def approvals(
    approval: Annotated[str | None, typer.Argument(help="apr_...; nothing: list.")] = None,
    decline: Annotated[bool, typer.Option("--decline", help="Say no instead of yes.")] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What waits for a second person; with an id, agree to it."""

    async def listed(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/approvals", {"state": "pending_approval"})

    async def decided(client: "StaffClient") -> list[Mapping[str, Any]]:
        body = {"decision": "decline" if decline else "approve"}
        path = f"/v1/approvals/{approval}"
        return [await client.post(path, body, idempotency_key=client.new_key("decide"))]

    work = listed if approval is None else decided
    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found} if approval is None else found[0])
        return
    rows = [
        (
            row["id"],
            row["kind"],
            row["subject"],
            row["state"],
            row["proposed_by"],
            row["created_at"],
            row["reason"],
        )
        for row in found
    ]
    show_table(("approval", "kind", "subject", "state", "proposed by", "at", "reason"), rows)


def alarms(
    alarm: Annotated[str | None, typer.Argument(help="alm_...: clear it; nothing: list.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open alarms; with an id, say that you have looked at it."""

    async def listed(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/alarms", {"state": "open"})

    async def cleared(client: "StaffClient") -> list[Mapping[str, Any]]:
        return [await client.post(f"/v1/alarms/{alarm}/clear", {})]

    found = call(listed if alarm is None else cleared, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found} if alarm is None else found[0])
        return
    rows = [
        (row["id"], row["kind"], row["network"], row["raised_at"], row["cleared_at"], row["detail"])
        for row in found
    ]
    show_table(("alarm", "kind", "network", "raised at", "cleared at", "detail"), rows)


def searches(
    search: Annotated[str | None, typer.Argument(help="sea_...: close it; nothing: list.")] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="What you found out; kept for ever.")
    ] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open differences that no transaction explains; with an id and --outcome, close one."""
    if (search is None) != (outcome is None):
        raise CliError("give SEARCH and --outcome, or neither", code=USAGE)

    async def listed(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/searches", {"state": "open"})

    async def closed(client: "StaffClient") -> list[Mapping[str, Any]]:
        return [await client.post(f"/v1/searches/{search}/close", {"outcome": outcome})]

    found = call(listed if search is None else closed, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found} if search is None else found[0])
        return
    names = ("kind", "asset", "subject", "claimed_minor", "moved_minor", "height", "outcome")
    head = ("search", "kind", "asset", "subject", "claimed", "moved", "height", "outcome")
    show_table(head, [(row["id"], *(row[name] for name in names)) for row in found])


def _body(
    scope: str, action: str | None, change: str | None, reason: str | None
) -> dict[str, str | int]:
    if action not in ACTIONS or change not in STATES:
        raise CliError(
            "give SCOPE ACTION stop|start",
            hint=f"ACTION is one of: {', '.join(ACTIONS)}",
            code=USAGE,
        )
    if not (reason or "").strip():
        raise CliError("a reason is required", hint='--reason "why"', code=USAGE)
    return {"scope": scope, "action": action, "state": STATES[change], "reason": str(reason)}


async def _standing(client: "StaffClient", body: Mapping[str, Any]) -> dict[str, Any]:
    """What stands now, in the shape of the answer to a change."""
    subject = (body["scope"], body["action"])
    switches = await all_pages(client, "/v1/switches")
    waiting = await all_pages(client, "/v1/approvals", {"state": "pending_approval"})
    return {
        "switch": next((s for s in switches if (s["scope"], s["action"]) == subject), None),
        "approval": next((a for a in waiting if a["subject"] == "/".join(subject)), None),
    }


def _sentence(body: Mapping[str, Any], answer: Mapping[str, Any], *, dry_run: bool) -> str:
    name = f"{body['scope']} {body['action']}"
    found, waiting = answer["switch"], answer["approval"]
    if not dry_run:
        if waiting is not None and waiting["state"] == "pending_approval":
            return (
                f"{name}: start proposed as {waiting['id']}; a second person now runs the same"
                " command, or: cage treasury approvals " + str(waiting["id"])
            )
        return f"{name} is {body['state']}"
    now = "running" if found is None else str(found["state"])
    if body["state"] == "stopped":
        return f"{name} is {now}; it would be stopped at once"
    if waiting is not None:
        return f"{name} is {now}; {waiting['proposed_by']} proposed to start it, you would agree"
    return f"{name} is {now}; you would propose to start it, a second person would have to agree"


def _show_switches(found: list[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        show_json({"items": found})
        return
    stopped = [row for row in found if row["state"] == "stopped"]
    if not stopped:
        show_line("nothing is stopped")
        return
    rows = [
        (row["scope"], row["action"], row["stopped_at"], row["changed_by"], cause)
        for row in stopped
        for cause in row["causes"]
    ]
    show_table(("scope", "action", "stopped at", "last by", "cause"), rows)


def mount(group: typer.Typer) -> None:
    """Add the commands to the treasury's group."""
    group.command("switch")(switch)
    group.command("approvals")(approvals)
    group.command("alarms")(alarms)
    group.command("searches")(searches)
