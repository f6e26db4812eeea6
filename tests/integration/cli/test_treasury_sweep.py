"""`cage treasury sweep`: a client of the API, under the person's own key."""

import json

import pytest

from tests.support.desk import REFUSED, Desk

pytestmark = pytest.mark.postgres


def test_t8_a_treasurer_asks_for_sweeps_and_sees_them(desk: Desk) -> None:
    code, out, err = desk.runs("treasury", "sweep", "--dry-run", *desk.treasurer)
    assert (code, "nothing waits" in out) == (0, True), err
    code, out, _ = desk.runs("treasury", "sweep", "--json", *desk.treasurer)
    assert (code, json.loads(out)) == (0, {"dry_run": False, "sweeps": 0, "waiting": []})
    code, out, _ = desk.runs("treasury", "sweeps", "--json", *desk.treasurer)
    assert (code, json.loads(out)) == (0, {"items": []})


def test_t8_a_supporter_may_not_and_a_wrong_asset_is_named(desk: Desk) -> None:
    code, _, err = desk.runs("treasury", "sweep", *desk.supporter)
    assert (code, "your key" in err) == (REFUSED, True), err
    code, _, err = desk.runs("treasury", "sweep", "--asset", "eth:XXX", *desk.treasurer)
    assert (code, "There is no such asset" in err) == (REFUSED, True), err
