"""`cage api | watch | payouts | webhooks | scheduler`: one role each, as its own process.

The command turns into `python -m gateway ROLE` (or `watchers`): nothing of a role runs here.
"""

from typing import Annotated

import typer

from gateway.cli.console import ConfigOption, become, settings_of


def api(config: ConfigOption = None) -> None:
    """Serve the HTTP API."""
    become("gateway", "api", config=config)


def payouts(config: ConfigOption = None) -> None:
    """Build, have signed, send and settle withdrawals."""
    become("gateway", "payouts", config=config)


def webhooks(config: ConfigOption = None) -> None:
    """Number events and deliver webhooks."""
    become("gateway", "webhooks", config=config)


def scheduler(config: ConfigOption = None) -> None:
    """Wake what runs by the clock."""
    become("gateway", "scheduler", config=config)


def watch(
    network: Annotated[str, typer.Argument(help="A configured network, such as btc.")],
    config: ConfigOption = None,
) -> None:
    """Follow one network: blocks, deposits, our own transactions."""
    from gateway.cli.console import USAGE, CliError

    known = sorted(settings_of(config).enabled_networks())
    if network not in known:
        raise CliError(
            f"network {network} is not configured",
            hint=f"configured: {', '.join(known) or 'none'}",
            code=USAGE,
        )
    become("watchers", network, config=config)


def mount(app: typer.Typer) -> None:
    """Add the roles to the program."""
    for command in (api, watch, payouts, webhooks, scheduler):
        app.command()(command)
