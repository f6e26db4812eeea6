"""`python -m gateway ROLE --config FILE`: starts one role (composition root).

Roles: api, payouts, webhooks, scheduler. Each is wired in its own module, and only that one is
imported. Exit 0 done, 1 failed, 2 configuration.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

import uvloop

from config import collector
from config.errors import ConfigError
from config.logs import configure_logs
from config.settings import Settings, load_settings

EXIT_USAGE = 2
ROLES = {
    "api": ("gateway.api.role", "run_api"),
    "payouts": ("gateway.payouts.role", "run_payouts"),
    "webhooks": ("gateway.webhooks.role", "run_webhooks"),
    "scheduler": ("gateway.scheduler", "run_scheduler"),
}

Role = Callable[[Settings], Awaitable[None]]


def main(arguments: list[str] | None = None) -> int:
    """Run a role until it is told to stop."""
    parser = argparse.ArgumentParser(prog="cage", description="Run one role of the gateway.")
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--config", type=Path, default=None, help="the TOML file")
    chosen = parser.parse_args(arguments)
    try:
        settings = load_settings(chosen.config)
        configure_logs(level=settings.logs.level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(chosen.role, settings))
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"cage {chosen.role}: {error}{hint}\n")
        return EXIT_USAGE
    return 0


async def _run(name: str, settings: Settings) -> None:
    module_name, function_name = ROLES[name]
    role: Role = getattr(import_module(module_name), function_name)
    collector.settle()
    await role(settings)


if __name__ == "__main__":
    sys.exit(main())
