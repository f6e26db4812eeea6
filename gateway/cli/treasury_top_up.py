"""`cage treasury top-up`: an inflow out of suspense, or capital to a brand; two people each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import adjustments
from gateway.cli.care import ConfirmOption
from gateway.cli.console import REFUSED, USAGE, CliError, JsonOption, show_json, show_line
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient


def top_up(
    inflow: Annotated[str | None, typer.Argument(help="The inflow's id: inf_...")] = None,
    target: Annotated[str | None, typer.Option("--as", help="capital, or clearing:BRAND.")] = None,
    allocate: Annotated[
        str | None, typer.Option("--allocate", help="Move capital to this brand instead.")
    ] = None,
    asset: Annotated[str | None, typer.Option(help="Of --allocate.")] = None,
    amount: Annotated[str | None, typer.Option(help="Of --allocate, in units.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Of --allocate.")] = None,
    confirm_amount: ConfirmOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be booked; propose nothing.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """INFLOW --as TARGET books an inflow; --allocate BRAND gives a brand of the capital."""
    options = {"api": api, "key_id": key_id, "key": key}
    if allocate is not None:
        if inflow is not None or target is not None or not (asset and amount and reason):
            raise CliError(
                "--allocate BRAND takes --asset, --amount and --reason, and no inflow",
                hint="capital itself comes from an inflow only: top-up INFLOW --as capital",
                code=USAGE,
            )
        body = {
            "category": "allocate",
            "asset": asset,
            "amount": amount,
            "brand": allocate,
            "reason": reason,
        }
        if dry_run:
            _tell(body, _waiting(_names_of(body), options), as_json=as_json)
        else:
            adjustments.book(body, confirmed=confirm_amount, as_json=as_json, options=options)
        return
    if inflow is None or target is None or asset or amount or reason or confirm_amount:
        raise CliError("give INFLOW --as capital|clearing:BRAND, or --allocate BRAND", code=USAGE)
    kind, _, brand = target.partition(":")
    if not (target == "capital" or (kind == "clearing" and brand)):
        raise CliError(f"--as {target}: give capital, or clearing:BRAND", code=USAGE)
    if dry_run:
        row = _inflow(inflow, options)
        would = {"inflow": inflow, "asset": row["asset"], "amount": row["amount"], "as": target}
        _tell(would, _waiting(inflow, options), as_json=as_json)
    else:
        _assign(inflow, target, as_json=as_json, options=options)


def _inflow(inflow: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What waits for a person. Raises CliError."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/inflows", {"state": "booked"})

    found = [row for row in call(work, **options) if row["id"] == inflow]
    if not found:
        raise CliError(
            f"{inflow} is no inflow that waits for a person",
            hint="cage treasury inflows",
            code=REFUSED,
        )
    return found[0]


def _names_of(body: Mapping[str, str]) -> str:
    """How an open decision about an allocation is named."""
    return "/".join(body[name] for name in ("category", "asset", "brand"))


def _waiting(subject: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The decision about it that waits for a second person."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/approvals", {"state": "pending_approval"})

    found = [row for row in call(work, **options) if row["subject"] == subject]
    return found[0] if found else None


def _tell(would: Mapping[str, str], waiting: Mapping[str, Any] | None, *, as_json: bool) -> None:
    if as_json:
        show_json({"would_book": would, "stands": waiting, "dry_run": True})
        return
    show_line(f"would book: {' '.join(would.values())}")
    if waiting is None:
        show_line("nobody has proposed it; you would, and a second person would have to agree")
    else:
        by, said = waiting["proposed_by"], waiting["id"]
        show_line(f"{by} proposed {said} for it; whoever says the same agrees")


def _assign(inflow: str, target: str, *, as_json: bool, options: Mapping[str, Any]) -> None:
    async def work(client: "StaffClient") -> Mapping[str, Any]:
        # The key is one per (inflow, target, person): a repeat gives the stored answer.
        return await client.post(
            f"/v1/inflows/{inflow}/assign",
            {"as": target},
            idempotency_key=f"top-up:{inflow}:{target}:{client.key_id}",
        )

    answer = call(work, **options)
    if as_json:
        show_json(answer)
    elif answer["state"] == "done":
        show_line(f"{inflow} is booked as {target}")
    else:
        show_line(f"{inflow}: proposed as {target}; a second person now runs the same command")


def mount(treasury_app: typer.Typer) -> None:
    """Add the command to the group."""
    treasury_app.command("top-up")(top_up)
