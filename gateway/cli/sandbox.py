"""`cage demo | up | bench`: thin doors to gateway/sandbox, opened only when they are used."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import ConfigOption, JsonOption


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running; prints URLs and keys.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play real deposits and withdrawals on embedded defaults, end to end."""
    from gateway.sandbox.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, as_json=as_json))


def up(
    config: ConfigOption = None,
    status_file: Annotated[
        Path | None, typer.Option(help="Where roles and pids go; else state_dir/status.json.")
    ] = None,
) -> None:
    """Start every role on this machine, each its own process, and keep them running."""
    from gateway.cli.console import settings_of
    from gateway.sandbox.supervisor import run_up

    raise typer.Exit(run_up(settings_of(config), config=config, status_file=status_file))


def bench(
    name: Annotated[str | None, typer.Argument(help="Only this benchmark.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure each figure against its floor in the same run."""
    from gateway.sandbox.bench import run_bench

    raise typer.Exit(run_bench(name, as_json=as_json))


def mount(app: typer.Typer) -> None:
    """Add the sandbox commands to the program."""
    for command in (demo, up, bench):
        app.command()(command)
