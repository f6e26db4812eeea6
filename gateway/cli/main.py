"""The `cage` program: mounts the commands, turns errors into one line and an exit code.

Exit codes (CONTRACT 2): 0 done, 1 failed, 2 usage or configuration, 3 refused by policy. Modules of
commands import web3 and SQLAlchemy inside their functions only: `cage --help` must stay quick.
"""

import sys
from collections.abc import Sequence

import typer

from config.errors import ConfigError, UnsafeEnvironment
from gateway.cli import (
    audit,
    deliveries,
    deposits,
    dev,
    ledger,
    recover,
    roles,
    sandbox,
    setup,
    treasury,
    vault,
    withdrawals,
)
from gateway.cli.console import FAILED, USAGE, CliError, show_error

INTERRUPTED = 130  # as a shell says it: 128 + SIGINT

app = typer.Typer(
    name="cage",
    help="Crypto payment gateway and blockchain watcher for an online casino.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (
    sandbox,
    roles,
    setup,
    vault,
    recover,
    treasury,
    ledger,
    audit,
    deliveries,
    deposits,
    withdrawals,
    dev,
):
    module.mount(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; every expected error is one clear line with a hint on stderr."""
    try:
        app(arguments)
    except SystemExit as error:  # how the command line library ends
        return error.code if isinstance(error.code, int) else 0
    except CliError as error:
        show_error(str(error), error.hint)
        return error.code
    except ConfigError as error:
        show_error(str(error), error.hint)
        return FAILED if isinstance(error, UnsafeEnvironment) else USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
