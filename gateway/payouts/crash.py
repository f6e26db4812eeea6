"""Named crash points of the payout road, for fault tests and the demo (HOUSE 12).

A point sits between every two steps. In production every call does nothing; a role may be told by
`crash_at` to die at one, which the settings refuse in live mode.
"""

import os
import signal
from pathlib import Path
from typing import Protocol

from config.errors import ConfigError

POINTS = (
    "payout.planned",
    "payout.sign_requested",
    "payout.signer_answered",
    "payout.signed",
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.recorded",
    "payout.settled",
)
POINTS_OF_REFUSALS = (
    "payout.looked_up",  # the signer said what it remembers of a refused attempt
    "payout.refused",  # a refusal was taken to the books
    "payout.cut",  # a question over the frame was taken apart, or its one order put on hold
)
"""Points that only a payout reaches which does not go straight on."""
POINTS_OF_BUMPS = (
    "payout.bump_planned",
    "payout.bump_answered",
    "payout.bump_signed",
    "payout.bump_dropped",  # refused, or too late: the family goes on without it
    "payout.adopted",  # another attempt of the family is in a block than the one that was current
    "payout.child_settled",
)
"""Points that only a payout reaches which pays too little for its time (docs/adr/0023)."""
POINTS_OF_UPKEEP = ("payout.upkeep_planned",)
"""Points of merges and splits of own coins; they are signed and settled as bumps are."""
POINTS_OF_STAFF = (
    "payout.exit",  # what two people signed about a dead payment is carried out
    "payout.abort_planned",
)
POINTS_OF_REFUNDS = (
    "payout.refund_planned",
    "payout.refund_moved",  # let go on, or given back, by what became of its deposit
)
"""Points that only a refund reaches; it is signed, sent and settled as a withdrawal is."""
POINTS_OF_SETUPS = (
    "payout.setup_planned",
    "payout.setup_asked",  # `sign_requested_at` is committed
    "payout.setup_answered",
    "payout.setup_signed",
    "payout.setup_refused",
    "payout.setup_bumped",  # a further attempt at a higher fee is planned
    "payout.setup_moved",  # it went on by what the chain shows
)
"""Points of set-ups of the batch contract; they are sent and settled as other own moves are."""
POINTS_OF_REFILLS = (
    "payout.refill_moved",  # built, taken over or followed: each is one unit of work
)
"""Points of moves from cold to hot; people sign them, the broadcaster sends them."""
POINTS_OF_SWEEPS = (
    "payout.sweeps_collected",  # final deposits belong to a sweep
    "payout.sweeps_judged",
    "payout.sweeps_planned",
    "payout.sweeps_asked",
    "payout.sweeps_answered",
    "payout.sweeps_signed",
    "payout.sweeps_refused",
    "payout.sweeps_sending",
    "payout.sweeps_sent",
    "payout.sweeps_recorded",
    "payout.sweeps_booked",
    "payout.sweeps_followed",
    "payout.sweeps_bumped",  # replacements are stored
)
"""Points of sweeps and of the gas for them."""
POINTS_OF_REBALANCES = (
    "payout.rebalance_proposed",  # by the system
    "payout.rebalance_planned",
    "payout.rebalance_asked",  # `sign_requested_at` is committed
    "payout.rebalance_answered",
    "payout.rebalance_signed",
    "payout.rebalance_refused",
    "payout.rebalance_bumped",  # a further attempt at a higher fee is planned
    "payout.rebalance_moved",  # it went on by what the chain shows
)
"""Points of moves between hot and cold; they are sent and settled as other own moves are."""
KILLED_EXIT_CODE = 137  # what a shell reports for `kill -9`


class Crash(Protocol):
    """Called at each point, after the step of that name is committed or answered."""

    def __call__(self, point: str, /) -> None: ...


def no_crash(point: str) -> None:
    """The production hook."""
    del point


class ExitAt:
    """Ends the process at one point as abruptly as `kill -9`: no cleanup, no flush."""

    def __init__(self, point: str) -> None:
        known = (
            *POINTS,
            *POINTS_OF_REFUSALS,
            *POINTS_OF_BUMPS,
            *POINTS_OF_UPKEEP,
            *POINTS_OF_STAFF,
            *POINTS_OF_REFUNDS,
            *POINTS_OF_SETUPS,
            *POINTS_OF_REFILLS,
            *POINTS_OF_SWEEPS,
            *POINTS_OF_REBALANCES,
        )
        if point not in known:
            raise ValueError(f"crash_at: unknown point, one of {', '.join(known)}")
        self._point = point

    def __call__(self, point: str) -> None:
        if point == self._point:
            os._exit(KILLED_EXIT_CODE)


class KillOnce:
    """Kills the process at the point that a file names, and removes the file first.

    So the next process, started by a supervisor with the same configuration, lives.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, point: str) -> None:
        try:
            named = self._file.read_text("ascii").strip()
        except FileNotFoundError:
            return
        if named == point:
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def crash_from(*, crash_at: str, once_file: Path | None) -> Crash:
    """The hook that the settings ask for; production asks for none. Raises ConfigError."""
    if crash_at:
        try:
            return ExitAt(crash_at)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return KillOnce(once_file) if once_file is not None else no_crash
