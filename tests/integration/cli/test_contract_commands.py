"""`cage treasury contract` as its own process against a real API: two people, the same command."""

import json

import pytest

from tests.support.desk import REFUSED, USAGE, Desk

pytestmark = pytest.mark.postgres

DEPLOY = ("treasury", "contract", "deploy", "eth", "--reference", "first")
FUND = ("treasury", "contract", "fund", "eth", "eth:ETH", "2", "--reference", "coins")


@pytest.fixture
def more_networks() -> str:
    """An account chain."""
    return '[networks.eth]\nchain = "dev"\n'


def test_s15_two_people_deploy_by_the_same_command(desk: Desk) -> None:
    dry = desk.runs(*DEPLOY, "--dry-run", *desk.treasurer)
    assert dry[:2] == (
        0,
        "would sign: deploy eth first\nnobody has signed it yet; you would propose it\n",
    )
    code, out, _ = desk.runs(*DEPLOY, *desk.treasurer)
    assert (code, "another person now runs the same command" in out) == (0, True)
    assert "signed by alice, is proposed" in desk.runs(*DEPLOY, "--dry-run", *desk.admin)[1]

    code, out, _ = desk.runs(*DEPLOY, *desk.admin, "--json")
    found = json.loads(out)
    assert (code, found["state"], found["signed_by"]) == (0, "approved", ["alice", "otto"])
    _, out, _ = desk.runs("treasury", "contract", "status", "eth", *desk.risk, "--json")
    assert json.loads(out)["items"] == [found]
    decline = ("treasury", "contract", "decline", found["id"], "--reason", "not now")
    code, out, _ = desk.runs(*decline, *desk.treasurer)
    assert (code, "is declined" in out) == (0, True)
    assert "declined" in desk.runs("treasury", "contract", "status", "eth", *desk.risk)[1]


def test_s15_an_amount_is_given_twice_and_refusals_are_told(desk: Desk) -> None:
    code, _, error = desk.runs(*FUND, "--confirm-amount", "20", *desk.treasurer)
    assert (code, "the amounts differ" in error) == (USAGE, True)
    code, _, error = desk.runs(*FUND, "--confirm-amount", "2", *desk.treasurer)
    assert (code, "no_contract" in error) == (REFUSED, True)
    for options in (desk.risk, desk.supporter):
        assert desk.runs(*DEPLOY, *options)[0] == REFUSED
    _, out, _ = desk.runs("treasury", "contract", "status", "eth", *desk.treasurer, "--json")
    assert json.loads(out)["items"] == []
