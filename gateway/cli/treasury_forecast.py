"""`cage treasury forecast`: what the next hours are expected to take and bring, and advice."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import (
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

FLOWS = {"inflow": "deposits", "demand": "withdrawals asked", "outflow": "payouts signed"}


def forecast(
    asset: Annotated[str | None, typer.Option(help="One asset; all without it.")] = None,
    hours: Annotated[
        int | None, typer.Option(min=1, max=168, help="How far ahead; policy's own without it.")
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="How forecasts of the last weeks would have done.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the next hours are expected to take and bring, by own history, and refill advice."""
    if backtest and asset is None:
        raise CliError("a back-test is of one asset", hint="give --asset", code=USAGE)
    query = {} if asset is None else {"asset": asset}
    query |= {} if hours is None else {"hours": str(hours)}
    path = "/v1/forecasts/backtest" if backtest else "/v1/forecasts"

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get(path, query)

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    elif backtest:
        _show_backtest(answer)
    else:
        _show(answer["items"])


def _show(items: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            item["asset"],
            words,
            *(item[flow][name] for name in ("p50", "p90", "p99")),
            item[flow]["basis"],
            item[flow]["samples"],
        )
        for item in items
        for flow, words in FLOWS.items()
    ]
    if items:
        show_line(f"the {items[0]['hours']} hours from {items[0]['starts_at'][:16]}Z")
    show_table(("asset", "flow", "p50>", "p90>", "p99>", "made of", "sums>"), rows)
    for item in items:
        if item["demand"]["basis"] == "none":
            show_line(
                f"{item['asset']}: too little history ({item['history_hours']} h) for a forecast"
            )
    advice = [item["advice"]["text"] for item in items if item["advice"] is not None]
    for text in advice:
        show_line(text)
    if not advice:
        show_line("no move is needed: every hot wallet with a band stays inside it")


def _show_backtest(found: Mapping[str, Any]) -> None:
    show_line(
        f"{found['forecasts']} forecasts of {found['asset']} {found['flow']} for"
        f" {found['hours']} h, from {found['history_hours']} h of history"
        f" ({found['skipped']} hours had too little)"
    )
    if not found["forecasts"]:
        return
    rows = [
        (
            row["quantile"],
            f"{row['coverage_permille'] // 10}.{row['coverage_permille'] % 10} %",
            row["loss"],
            row["naive_loss"],
            "better" if int(row["loss_minor"]) < int(row["naive_loss_minor"]) else "NOT better",
        )
        for row in found["quantiles"]
    ]
    show_table(("quantile", "held>", "loss>", "naive loss>", "than naive"), rows)


def mount(app: typer.Typer) -> None:
    """Add the command to the treasury group."""
    app.command("forecast")(forecast)
