"""Staff commands against a real API on loopback: tables, JSON, exit codes, keys of people."""

import json

import pytest

from tests.support.desk import FAILED, REFUSED, USAGE, Desk

pytestmark = pytest.mark.postgres


def test_trial_balance_of_new_books_is_balanced(desk: Desk) -> None:
    code, out, _ = desk.runs("ledger", "trial-balance", *desk.treasurer)
    assert (code, out.splitlines()[-1]) == (0, "balanced")
    code, out, _ = desk.runs("ledger", "trial-balance", *desk.treasurer, "--json")
    assert (code, json.loads(out)["balanced"]) == (0, True)


def test_plan_shows_the_hot_wallet_against_its_band(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "plan", *desk.treasurer)
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split() == ["btc/hot", "btc:BTC", "0", "1", "5", "10", "low"]
    assert lines[2] == "outside their band: btc:BTC"
    assert lines[3].startswith("would move 5 btc:BTC cold_to_hot (below_min)")


def test_a_proposal_says_why_and_an_amount_has_an_asset_and_a_direction(desk: Desk) -> None:
    plan = ("treasury", "plan", "btc:BTC")
    for options, told in (
        (("--propose",), "--reason"),
        (("--amount", "1"), "--direction"),
    ):
        code, _, error = desk.runs(*plan, *options, *desk.treasurer)
        assert (code, told in error) == (USAGE, True)
    ask = (*plan, "--propose", "--reason", "low")
    code, _, error = desk.runs(*ask, *desk.treasurer)
    assert (code, "no_cold_wallet" in error) == (REFUSED, True)
    assert desk.runs(*ask, *desk.supporter)[0] == REFUSED


def test_balances_and_inflows_answer_json(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "balances", *desk.treasurer, "--json")
    assert (code, json.loads(out)["items"][0]["wallet"]) == (0, "btc/hot")
    code, out, _ = desk.runs("treasury", "inflows", *desk.treasurer, "--json")
    assert (code, json.loads(out)) == (0, {"items": []})


def test_withdrawal_that_does_not_exist_fails(desk: Desk) -> None:
    code, _, error = desk.runs("withdrawals", "show", f"wd_test_{'0' * 32}", *desk.supporter)
    assert (code, error) == (FAILED, "cage: There is no such resource. (not_found)\n")


def test_person_without_the_scope_is_refused(desk: Desk) -> None:
    top_up = ("treasury", "top-up", f"inf_test_{'0' * 32}", "--as", "capital")
    code, _, error = desk.runs(*top_up, *desk.supporter)
    assert code == REFUSED
    assert "has not the scope" in error


def test_key_that_is_not_registered_is_told_nothing_but_a_hint(desk: Desk) -> None:
    mixed = [*desk.treasurer[:4], "--key", desk.supporter[5]]
    code, _, error = desk.runs("ledger", "trial-balance", *mixed)
    assert code == FAILED
    assert "unauthenticated" in error
    assert "cage staff add" in error


def test_a_first_rate_waits_for_a_second_person_and_is_not_everybodys_to_set(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "rates", "set", "btc:BTC", "64250.5", *desk.treasurer)
    assert (code, "a second person now runs the same command" in out) == (0, True)
    code, out, _ = desk.runs("treasury", "rates", "list", "--json", *desk.treasurer)
    assert (code, json.loads(out)) == (0, {"items": []})
    code, _, err = desk.runs("treasury", "rates", "set", "btc:BTC", "1", *desk.supporter)
    assert (code, "missing_scope" in err) == (REFUSED, True)
    code, _, err = desk.runs("treasury", "rates", "set", "btc:BTC", "1e5", *desk.treasurer)
    assert (code, "invalid_request" in err) == (REFUSED, True)
