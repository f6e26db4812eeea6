"""The `cage` program: mounts the commands, turns errors into one line and an exit code.

Exit codes (CONTRACT 2): 0 done, 1 failed, 2 usage or configuration, 3 refused by policy. Modules of
commands import web3 and SQLAlchemy inside their functions only: `cage --help` must stay quick.
"""

import sys

import typer

from config.errors import ConfigError, UnsafeEnvironment
from gateway.cli import dev

FAILED = 1
USAGE = 2

app = typer.Typer(
    name="cage",
    help="Crypto payment gateway and blockchain watcher for an online casino.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
dev.mount(app)


def main() -> int:
    """Run the program; every expected error is one clear line with a hint on stderr."""
    try:
        app()
    except ConfigError as error:
        sys.stderr.write(f"cage: {error}\n")
        if error.hint:
            sys.stderr.write(f"  hint: {error.hint}\n")
        return FAILED if isinstance(error, UnsafeEnvironment) else USAGE
    except KeyboardInterrupt:
        return 130
    return 0
