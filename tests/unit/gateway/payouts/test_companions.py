"""Who rides together, and that every cut ends with single payments."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from config.settings import BatchSettings, PayoutSettings
from gateway.payouts.companions import (
    BY_URGENCY,
    SIGN_ALONE,
    at_most,
    groups,
    never_signed,
    split_code,
)
from gateway.payouts.refusals import cap_retry_is_due
from gateway.withdrawals_store import WithdrawalRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = BatchSettings(window_seconds=0)
SETTINGS = PayoutSettings(urgent=AT_ONCE, normal=AT_ONCE, economy=AT_ONCE)


def row(number: int, *, code: str | None = None, brand: str = "acme") -> WithdrawalRow:
    return WithdrawalRow(
        id=UUID(int=number), brand=brand, request_id=f"r-{number}", kind="withdrawal",
        player_id="p", network="btc", asset="btc:BTC", address="a", address_key="k",
        amount_minor=1, pam_balance_minor=0, fee_class="normal", fee_mode="brand", metadata={},
        state="queued", code=code, is_reserved=True, version=1, attempt_id=None, txid=None,
        valid_until=AT, promise_at=AT, sign_requested_at=None, accepted_at=AT, state_at=AT,
    )  # fmt: skip


def of(number: int, fee_class: str, *, waited_seconds: int = 7_200) -> WithdrawalRow:
    accepted = AT - timedelta(seconds=waited_seconds)
    return replace(row(number), fee_class=fee_class, accepted_at=accepted)


def planned(*rows: WithdrawalRow, rates: tuple[int, int, int] | None) -> list[list[int]]:
    """With the windows of the house; rates of urgent, normal, economy in sat per vB."""
    known = None
    if rates is not None:
        known = {name: rate * 1_000 for name, rate in zip(BY_URGENCY, rates, strict=True)}
    found = groups(rows, is_alone=False, settings=PayoutSettings(), now=AT, rates=known)
    return [[item.int for item in group] for group in found]


def grouped(*rows: WithdrawalRow, is_alone: bool = False) -> list[list[int]]:
    found = groups(rows, is_alone=is_alone, settings=SETTINGS, now=AT)
    return [[item.int for item in group] for group in found]


@pytest.mark.parametrize("count", range(2, 501))
def test_every_cut_is_to_fewer_and_ends_alone(count: int) -> None:
    few = at_most(split_code(count))
    assert few is not None
    assert few < count <= 2 * few


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_cut_is_a_payment_alone(count: int) -> None:
    assert split_code(count) == SIGN_ALONE


def test_other_codes_say_nothing_about_company() -> None:
    assert at_most(None) is None
    assert at_most("signer_cap") is None
    assert at_most("split_3") is None


def test_what_was_cut_rides_with_few_of_its_own_brand() -> None:
    two = split_code(3)
    rows = [
        row(1), row(2, code=two), row(3, code=two, brand="bravo"), row(4, code=two),
        row(5, code=two), row(6), row(7, code=SIGN_ALONE), row(8, code=SIGN_ALONE),
    ]  # fmt: skip

    assert grouped(*rows) == [[1, 6], [2, 4], [5], [3], [7], [8]]


def test_on_account_chains_everybody_rides_alone() -> None:
    assert grouped(row(1), row(2, code="split_2"), is_alone=True) == [[1], [2]]


def test_each_wait_for_a_cap_is_about_twice_the_one_before() -> None:
    waits = []
    moment = AT + timedelta(seconds=5)
    for _ in range(8):
        item = replace(row(1, code="signer_cap"), state_at=moment)
        seconds = next(
            n for n in range(1, 2_000) if cap_retry_is_due(item, now=moment + timedelta(seconds=n))
        )
        waits.append(seconds)
        moment += timedelta(seconds=seconds)

    assert waits == [60, 65, 130, 260, 520, 900, 900, 900]


def test_p06_what_was_signed_before_shares_no_call_of_the_contract() -> None:
    fresh, again = row(1), replace(row(2), txid="ab" * 32)

    assert never_signed([fresh, again]) == [fresh]


def test_w4_an_endangered_one_goes_alone_where_company_would_pay_its_rate() -> None:
    """Five economy payments at 10 instead of 1 sat per vB cost more than a tx of their own."""
    rows = [of(1, "urgent"), *(of(number, "economy") for number in range(2, 7))]

    assert planned(*rows, rates=(10, 5, 1)) == [[1], [2, 3, 4, 5, 6]]
    assert planned(*rows, rates=(2, 2, 2)) == [[1, 2, 3, 4, 5, 6]]
    assert planned(*rows, rates=None) == [[1, 2, 3, 4, 5, 6]]


def test_w4_one_more_output_is_cheaper_than_a_tx_of_its_own() -> None:
    """32 vB at 10 sat per vB, or 174 at 2."""
    assert planned(of(1, "urgent"), of(2, "economy"), rates=(10, 5, 2)) == [[1, 2]]
    assert planned(of(1, "urgent"), of(2, "economy"), rates=(12, 5, 2)) == [[1], [2]]


def test_w4_three_due_classes_are_cut_where_it_costs_least() -> None:
    rows = [of(1, "urgent"), *(of(n, "normal") for n in range(2, 6)), of(6, "economy")]

    assert planned(*rows, rates=(20, 3, 2)) == [[1], [2, 3, 4, 5, 6]]
    assert planned(*rows, rates=(4, 4, 1)) == [[1, 2, 3, 4, 5, 6]]


def test_w4_a_later_deadline_waits_for_a_cheaper_batch() -> None:
    """Ten minutes of its fifteen are left, and the tx that goes now pays three times its rate."""
    fresh = [of(number, "economy", waited_seconds=300) for number in range(2, 5)]

    assert planned(of(1, "urgent"), *fresh, rates=(3, 2, 1)) == [[1]]
    assert planned(*fresh, rates=(3, 2, 1)) == []
    assert planned(of(1, "urgent"), *fresh, rates=None) == [[1]]


def test_w4_what_is_not_due_rides_along_where_it_pays_no_more_than_its_own_rate() -> None:
    fresh = [of(number, "economy", waited_seconds=300) for number in range(2, 5)]

    assert planned(of(1, "urgent"), *fresh, rates=(1, 1, 1)) == [[1, 2, 3, 4]]


def test_w4_those_that_ride_along_fill_a_tx_and_never_make_one() -> None:
    due = [of(number, "urgent") for number in range(1, 100)]
    fresh = [of(number, "economy", waited_seconds=300) for number in range(200, 203)]

    [first] = planned(*due, *fresh, rates=(1, 1, 1))
    assert first == [*range(1, 100), 200]
    assert planned(*due, of(100, "urgent"), *fresh, rates=(1, 1, 1)) == [[*range(1, 101)]]
