"""`cage demo | up | bench | drill`: thin doors to gateway/sandbox, opened only when used."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import USAGE, CliError, ConfigOption, JsonOption


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


def kill_payout(
    scene: Annotated[
        str | None, typer.Option("--scene", help="Only this one; without it all of them.")
    ] = None,
    points: Annotated[
        str, typer.Option("--points", help="How many messages to die at, over all scenes, or all.")
    ] = "160",
    seed: Annotated[int, typer.Option("--seed", help="Which ones are drawn.")] = 20260101,
    worlds: Annotated[
        int, typer.Option("--worlds", min=1, max=5, help="Scenes at once, each in its own world.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Kill payouts, API and signer at their messages; each withdrawal must be paid once."""
    from gateway.sandbox.drill import run_drill
    from gateway.sandbox.drill_scenes import SCENES

    names = [item.name for item in SCENES]
    if scene is not None and scene not in names:
        raise CliError(f"there is no scene {scene}", hint=", ".join(names), code=USAGE)
    if points != "all" and not (points.isascii() and points.isdigit() and int(points) > 0):
        raise CliError(f"--points {points} is no number", hint="or: all", code=USAGE)
    count = None if points == "all" else int(points)
    raise typer.Exit(
        run_drill(scene=scene, points=count, seed=seed, worlds=worlds, as_json=as_json)
    )


def soak(
    blocks: Annotated[int, typer.Option("--blocks", min=40, max=100_000)] = 4_000,
    addresses: Annotated[int, typer.Option("--addresses", min=1, max=10_000_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Follow many blocks beside many addresses; memory and open files must stay flat."""
    from gateway.sandbox.soak import run_soak

    raise typer.Exit(run_soak(blocks=blocks, addresses=addresses, as_json=as_json))


def mount(app: typer.Typer) -> None:
    """Add the sandbox commands to the program."""
    for command in (demo, up, bench):
        app.command()(command)
    drills = typer.Typer(help="Drills on throw-away deployments.", no_args_is_help=True)
    drills.command("kill-payout")(kill_payout)
    drills.command()(soak)
    app.add_typer(drills, name="drill")
