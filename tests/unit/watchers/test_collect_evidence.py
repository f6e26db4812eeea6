"""What a block shows of a collect: each leg by its own log, and what nobody planned (P29)."""

from typing import Any

import pytest

from watchers.chain import AccountSend, Collected
from watchers.collect_evidence import collect_evidence

HOT = "0x" + "11" * 20
A, B, C = ("0x" + digit * 40 for digit in "abc")


def leg(source: str, amount: int) -> dict[str, Any]:
    """A planned leg as its row has it."""
    return {
        "asset": "eth:USDT", "address": HOT, "key": HOT, "amount_minor": str(amount),
        "from_key": source,
    }  # fmt: skip


def took(source: str, amount: int, *, to: str = HOT) -> Collected:
    """A movement by the collector."""
    return source, ("eth:USDT", to, amount)


def send(*collected: Collected, **changes: Any) -> AccountSend:
    """A mined collect."""
    fields: dict[str, Any] = {
        "txid": "0x01",
        "sender_key": C,
        "nonce": 0,
        "is_success": True,
        "fee_minor": 7,
        "transfers_out": (),
        "collected": collected,
    }
    return AccountSend(**{**fields, **changes})


PLANNED = [leg(A, 5), leg(B, 5)]


@pytest.mark.parametrize(
    ("seen", "as_planned", "indexes"),
    [
        (send(took(A, 5), took(B, 5)), True, [0, 1]),
        (send(took(B, 5), took(A, 5)), True, [0, 1]),
        (send(took(B, 5)), False, [1]),
        (send(), False, []),
        (send(took(A, 5), took(A, 5)), False, [0, None]),
        (send(took(A, 4), took(B, 5)), False, [1, None]),
        (send(took(A, 5, to=B), took(B, 5)), False, [1, None]),
        (send(took(A, 5), took(B, 5), took(B, 1, to=C)), False, [0, 1, None]),
        (
            send(took(A, 5), took(B, 5), transfers_out=(("eth:USDT", HOT, 5),)),
            False,
            [0, 1, None],
        ),
        (send(is_success=False), False, []),
        (send(is_success=False, collected=None), False, []),
        (send(collected=None), None, []),
    ],
)
def test_p29_each_leg_is_told_by_its_own_movement(
    seen: AccountSend, as_planned: bool | None, indexes: list[int | None]
) -> None:
    found = collect_evidence(PLANNED, seen)
    assert found["is_paid_as_planned"] is as_planned
    assert (found["is_success"], found["fee_minor"]) == (seen.is_success, 7)
    assert [item.get("output_index") for item in found["moved"]] == indexes


def test_a_movement_says_whom_it_left() -> None:
    found = collect_evidence(PLANNED, send(took(B, 5), transfers_out=(("eth:ETH", HOT, 1),)))
    assert found["moved"] == [
        {"asset": "eth:USDT", "key": HOT, "amount_minor": "5", "from_key": B, "output_index": 1},
        {"asset": "eth:ETH", "key": HOT, "amount_minor": "1", "from_key": C},
    ]
