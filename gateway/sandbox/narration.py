"""What the demo tells: progress lines, checks that must hold, and the summary's rows.

A failed check does not stop the story; it makes the demo end with exit 1 and names itself.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from config.clock import Clock


@dataclass(slots=True, kw_only=True)
class Narration:
    """Collects facts while the story runs; `console` writes to stderr."""

    clock: Clock
    console: Console
    started_seconds: float
    checks: list[tuple[str, bool]] = field(default_factory=list)
    reorgs: dict[str, int] = field(default_factory=dict)
    has_ended: bool = False

    def elapsed_seconds(self) -> float:
        """Since the demo began."""
        return self.clock.monotonic_seconds() - self.started_seconds

    def say(self, text: str) -> None:
        """One line of progress; an empty one (a cleared line elsewhere) says nothing."""
        if not text:
            return
        self.console.print(f"[dim]{self.elapsed_seconds():5.1f}s[/] {text}", highlight=False)

    def check(self, claim: str, is_true: bool) -> None:
        """A claim that must hold; a false one is shown at once and fails the demo."""
        self.checks.append((claim, is_true))
        mark = "[green]ok[/]" if is_true else "[red bold]FAILED[/]"
        self.say(f"  {mark} {claim}")

    def counted_reorg(self, network: str) -> None:
        """The story replaced blocks of a network once more."""
        self.reorgs[network] = self.reorgs.get(network, 0) + 1

    @property
    def is_ok(self) -> bool:
        """Whether the story was told to its end and every check held."""
        return self.has_ended and bool(self.checks) and all(held for _, held in self.checks)

    def failed(self) -> list[str]:
        """The claims that did not hold."""
        return [claim for claim, held in self.checks if not held]


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The tables that end the demo."""
    deposits = Table(title="Deposits", title_justify="left")
    for column in ("asset", "amount", "txid", "states"):
        deposits.add_column(column, overflow="fold")
    for row in summary["deposits"]:
        deposits.add_row(row["asset"], row["amount"], row["txid"], " > ".join(row["states"]))
    console.print(deposits)
    withdrawals = Table(title="Withdrawals", title_justify="left")
    for column in ("asset", "amount", "txid", "batch", "states"):
        withdrawals.add_column(column, overflow="fold")
    for row in summary["withdrawals"]:
        withdrawals.add_row(
            row["asset"],
            row["amount"],
            "\n".join(row["txids"]),
            str(row["batch_size"]),
            " > ".join(row["states"]),
        )
    console.print(withdrawals)
    hooks = summary["webhooks"]
    console.print(
        f"webhooks: {hooks['delivered']} delivered, {hooks['bad_signatures']} with a bad "
        f"signature, {hooks['pending']} pending"
    )
