"""`cage treasury switch`, `approvals` and `alarms` as their own processes against a real API."""

import json

import pytest

from tests.support.desk import REFUSED, USAGE, Desk

pytestmark = pytest.mark.postgres


def test_one_person_stops_and_two_start_by_the_same_command(desk: Desk) -> None:
    stop = ("treasury", "switch", "network:btc", "all", "stop", "--reason", "drill")
    start = ("treasury", "switch", "network:btc", "all", "start", "--reason", "over")
    assert desk.runs("treasury", "switch", *desk.risk)[1] == "nothing is stopped\n"
    assert desk.runs(*stop, "--dry-run", *desk.treasurer)[1] == (
        "network:btc all is running; it would be stopped at once\n"
    )
    assert desk.runs(*stop, *desk.treasurer)[:2] == (0, "network:btc all is stopped\n")
    assert "alice: drill" in desk.runs("treasury", "switch", *desk.risk)[1]
    assert "start proposed as apr_test_" in desk.runs(*start, *desk.treasurer)[1]
    assert desk.runs(*start, "--dry-run", *desk.risk)[1] == (
        "network:btc all is stopped; alice proposed to start it, you would agree\n"
    )
    code, out, _ = desk.runs(*start, *desk.risk, "--json")
    found = json.loads(out)
    assert (code, found["switch"]["state"], found["switch"]["approved_by"]) == (
        0,
        "running",
        "rita",
    )


def test_the_second_person_agrees_to_the_approval(desk: Desk) -> None:
    desk.runs("treasury", "switch", "network:btc", "sign", "stop", "--reason", "drill", *desk.risk)
    desk.runs("treasury", "switch", "network:btc", "sign", "start", "--reason", "over", *desk.risk)
    _, out, _ = desk.runs("treasury", "approvals", *desk.treasurer, "--json")
    [waiting] = json.loads(out)["items"]
    code, _, error = desk.runs("treasury", "approvals", waiting["id"], *desk.risk)
    assert (code, "same_person" in error) == (REFUSED, True)
    code, out, _ = desk.runs("treasury", "approvals", waiting["id"], *desk.treasurer, "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert desk.runs("treasury", "switch", *desk.risk)[1] == "nothing is stopped\n"


def test_an_open_alarm_tells_of_the_stop_and_is_not_cleared_away(desk: Desk) -> None:
    desk.runs(
        "treasury",
        "switch",
        "network:btc",
        "credit",
        "stop",
        "--reason",
        "drill",
        *desk.treasurer,
    )
    _, out, _ = desk.runs("treasury", "alarms", *desk.treasurer, "--json")
    [alarm] = json.loads(out)["items"]
    assert alarm["detail"] == "network:btc credit: drill (alice)"
    code, _, error = desk.runs("treasury", "alarms", alarm["id"], *desk.treasurer)
    assert (code, "holds_work" in error) == (REFUSED, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("network:btc",),
        ("network:btc", "all", "close", "--reason", "x"),
        ("network:btc", "everything", "stop", "--reason", "x"),
        ("network:btc", "all", "stop"),
    ],
)
def test_half_a_command_is_a_question_of_usage(desk: Desk, arguments: tuple[str, ...]) -> None:
    code, _, error = desk.runs("treasury", "switch", *arguments, *desk.treasurer)
    assert (code, error.startswith("cage: ")) == (USAGE, True)


def test_support_stops_nothing(desk: Desk) -> None:
    stop = ("treasury", "switch", "network:btc", "all", "stop", "--reason", "drill")
    assert desk.runs(*stop, *desk.supporter)[0] == REFUSED


def test_searches_are_listed_and_need_words_to_be_closed(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "searches", *desk.treasurer, "--json")
    assert (code, json.loads(out)) == (0, {"items": []})
    code, _, error = desk.runs("treasury", "searches", "sea_test_1", *desk.treasurer)
    assert (code, "--outcome" in error) == (USAGE, True)
    unknown = "sea_test_" + "0" * 32
    code, _, error = desk.runs("treasury", "searches", unknown, "--outcome", "x y", *desk.treasurer)
    assert (code, "not_found" in error) == (1, True)
