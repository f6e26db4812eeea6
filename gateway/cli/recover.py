"""`cage recover`: books that lack what the signer signed are made whole (CONTRACT 8, P09).

Without `--confirm` it runs on the signer's host, under the database's owner: it writes the signer's
bytes into the books of each network in recovery and asks for the blocks to be looked at again. With
`--confirm ID` it is a client of the API like every staff command; two people have to run it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import (
    FAILED,
    USAGE,
    CliError,
    ConfigOption,
    JsonOption,
    run_coroutine,
    settings_of,
    show_json,
    show_line,
)
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.cli.client import StaffClient
    from gateway.payouts.recovery_store import RecoveryRow


def recover(
    network: Annotated[
        str | None, typer.Option("--network", help="Only this one; else all in recovery.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="Let this recovery's network go on.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept for ever.")] = None,
    accept_left_over: Annotated[
        bool, typer.Option("--accept-left-over", help="Also with signatures left over.")
    ] = False,
    config: ConfigOption = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import what the signer signed and the books lack; --confirm by two people lets it go on."""
    if confirm is not None:
        if not (reason or "").strip():
            raise CliError("a reason is required", hint='--reason "why"', code=USAGE)
        body = {"reason": str(reason), "accept_left_over": accept_left_over}

        async def work(client: "StaffClient") -> Mapping[str, Any]:
            path = f"/v1/recoveries/{confirm}/confirm"
            return await client.post(path, body, idempotency_key=client.new_key("recover"))

        _show_answer(call(work, api=api, key_id=key_id, key=key), as_json=as_json)
        return
    settings = settings_of(config)
    rows = run_coroutine(_import(settings, network))
    _show(rows, livemode=settings.livemode, as_json=as_json)
    if any(row.left_over for row in rows):
        raise typer.Exit(FAILED)


async def _import(settings: "Settings", only: str | None) -> list["RecoveryRow"]:
    from config.clock import SystemClock
    from config.database import Database, async_url
    from config.ids import SystemIds
    from config.logs import configure_logs
    from config.registry import load_registry
    from gateway.payouts.errors import NothingToRecover, PayoutError
    from gateway.payouts.imports import Importer
    from gateway.payouts.role import build_lane
    from gateway.payouts.signer_client import SignerClient
    from watchers.errors import WatcherError
    from watchers.registry import build_agreed_chain

    configure_logs(level=settings.logs.level)  # to stderr: stdout is the answer's
    registry = load_registry(settings)
    if only is not None and only not in registry.chains:
        known = ", ".join(registry.chains)
        raise CliError(f"network {only} is not configured", hint=f"one of: {known}", code=USAGE)
    clock = SystemClock()
    database = Database(async_url(settings.owner_url()), pool_size=2, application_name="recover")
    signer = SignerClient(
        settings.path(settings.signer.socket), timeout_seconds=settings.signer.timeout_seconds
    )
    done: list[RecoveryRow] = []
    try:
        for name in [only] if only is not None else list(registry.chains):
            node = settings.networks[name]
            chain = build_agreed_chain(
                registry.chains[name],
                [item.url_with_credentials() for item in node.nodes],
                registry.assets.values(),
                quorum=node.quorum,
                clock=clock,
                timeout_seconds=node.request_timeout_seconds,
                calls_per_second=node.calls_per_second,
            )
            lane = build_lane(
                name,
                registry,
                database=database,
                chain=chain,
                signer=signer,
                clock=clock,
                ids=SystemIds(clock),
            )
            try:
                done.append(await Importer(lane).run())
            except NothingToRecover:
                continue
            except (PayoutError, WatcherError, TimeoutError) as error:
                raise CliError(
                    f"{name}: {type(error).__name__}: {error}",
                    hint="nothing is half done; run it again",
                ) from error
            finally:
                await chain.close()
    finally:
        await database.close()
    return done


def _show(rows: list["RecoveryRow"], *, livemode: bool, as_json: bool) -> None:
    from config.ids import public_id

    if as_json:
        show_json(
            {
                "recoveries": [
                    {
                        "id": public_id("recovery", row.id, livemode=livemode),
                        "network": row.network,
                        "state": row.state,
                        "imported": row.imported,
                        "left_over": [dict(item) for item in row.left_over],
                    }
                    for row in rows
                ]
            }
        )
        return
    if not rows:
        show_line("no network is in recovery")
    for row in rows:
        show_line(f"{row.network}: {row.imported} signatures imported ({row.detail})")
        for item in row.left_over:
            show_line(f"  left over: {item['txid']}: {item['reason']}")
        recovery_id = public_id("recovery", row.id, livemode=livemode)
        show_line(f"  two people: cage recover --confirm {recovery_id} --reason WHY")


def _show_answer(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(dict(answer))
        return
    row = answer["recovery"]
    if row["state"] == "imported":
        show_line(f"{row['network']}: confirmed by you; another person runs the same command")
    else:
        show_line(f"{row['network']}: confirmed by {' and '.join(row['confirmed_by'])}; it goes on")


def mount(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("recover")(recover)
