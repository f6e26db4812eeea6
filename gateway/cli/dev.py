"""`cage test`, `cage lint`, `cage types`, `cage docs`: the same words in CI and by hand.

Owns nothing but the command lines of the tools. Each ends with the tool's own exit code.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
FAILED = 1
USAGE = 2

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
TEST_WORKERS_MAX = 4  # three nodes and a database server each


def _tool(*command: str, environ: dict[str, str] | None = None) -> int:
    """Run `python -m <command>` at the root of the project; returns its exit code."""
    variables = os.environ | (environ or {})
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=variables, check=False
    ).returncode


def run_tests(
    context: typer.Context,
    seed: Annotated[
        int | None, typer.Option(help="Repeat the run that printed this seed.", min=0)
    ] = None,
) -> None:
    """Run the whole test suite on real nodes and PostgreSQL. Further words go to pytest."""
    from gateway.sandbox.provision import NODES, TOKEN_TOOL, provision

    found = provision((*NODES, TOKEN_TOOL))
    for error in found.missing.values():
        sys.stderr.write(f"cage: {error}\n")  # the tests that need it fail: never skipped
    options = [] if seed is None else [f"--seed={seed}"]
    if not any(word.startswith("-n") for word in context.args):
        options += ["-n", str(_workers()), "--dist", "loadfile", "--no-loadscope-reorder"]
    raise typer.Exit(_tool("pytest", *options, *context.args, environ=found.environment()))


def _workers() -> int:
    """Each worker has its own PostgreSQL and nodes; words of the caller (`-n 0`) win."""
    return min(os.cpu_count() or 1, TEST_WORKERS_MAX)


def lint() -> None:
    """ruff check and ruff format --check."""
    codes = [_tool("ruff", "check", "."), _tool("ruff", "format", "--check", ".")]
    raise typer.Exit(FAILED if any(codes) else 0)


def types() -> None:
    """mypy --strict over every package and the tests."""
    raise typer.Exit(_tool("mypy"))


def docs(
    check: Annotated[bool, typer.Option(help="Only say whether the files are current.")] = False,
) -> None:
    """Write docs/STATES.md from the lifecycle tables and docs/CASES.md from the tests."""
    options = ["--check"] if check else []
    raise typer.Exit(_tool("tests.support.generated_docs", *options))


def mount(app: typer.Typer) -> None:
    """Add the developer commands to the program."""
    app.command("test", context_settings=PASS_THROUGH)(run_tests)
    app.command("lint")(lint)
    app.command("types")(types)
    app.command("docs")(docs)
