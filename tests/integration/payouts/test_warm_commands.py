"""The warm wallet at the desk: typed commands of two people, and what the API refuses."""

import json
from pathlib import Path

import pytest

from gateway.cli import reserves_proof
from gateway.cli.deposit_proof import Status
from gateway.payouts.rebalances import Direction
from tests.integration.payouts.test_proof_real_nodes import Maker
from tests.integration.payouts.test_rebalances_real_nodes import in_real_time
from tests.support.bumps import funded, no_breaks, run_to_rest, work
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE
from tests.support.payout_fixtures import BuildHouse
from tests.support.people import employ
from tests.support.rebalancing import agree, believe, custody, every, now
from tests.support.refill_desk import TreasuryDesk, open_desk
from tests.support.refills import RefillHouse
from tests.support.warm import ask, warm_address, with_warm

pytestmark = pytest.mark.postgres

BLOCKS = 8
ASK = ("treasury", "plan", "btc:BTC", "--propose", "--reason", "a reserve")


async def asked(desk: TreasuryDesk, direction: str, amount: str) -> str:
    """What alice asks for, in words; the move's id."""
    code, out, _ = await desk.runs(
        "alice", *ASK, "--direction", direction, "--amount", amount, "--json"
    )
    assert code == 0
    [move] = json.loads(out)["moves"]
    assert (move["state"], move["direction"], move["amount"]) == ("proposed", direction, amount)
    return str(move["id"])


async def test_t1_t8_two_people_fill_the_warm_wallet_and_empty_it_by_command(
    house: BuildHouse, test_database: TestDatabase, tmp_path: Path
) -> None:
    built = await funded(await house("btc"))
    await in_real_time(built)
    await with_warm(built)
    warm = await warm_address(built)
    async with open_desk(RefillHouse(house=built), test_database, tmp_path) as desk:
        believe(built, desk.url.removeprefix("http://"))
        for direction, amount, left in (("hot_to_warm", "2", "2"), ("warm_to_hot", "1", "")):
            move = await asked(desk, direction, amount)
            sign = ("treasury", "apply", move, "--confirm-amount")
            code, out, _ = await desk.runs("alice", *sign, amount, "--dry-run")
            assert (code, "signed by nobody" in out) == (0, True)
            assert (warm.address in out) is (direction == "hot_to_warm")
            code, _, error = await desk.runs("alice", *sign, "20")
            assert (code, "the amounts differ" in error) == (USAGE, True)
            code, out, _ = await desk.runs("alice", *sign, amount, "--json")
            assert (code, json.loads(out)["state"], json.loads(out)["people_needed"]) == (
                0, "proposed", 2,
            )  # fmt: skip
            code, out, _ = await desk.runs("alice", *sign, amount)  # twice is once
            assert (code, "another person now runs the same command" in out) == (0, True)
            code, out, _ = await desk.runs("bob", *sign, amount, "--json")
            assert (code, json.loads(out)["signed_by"]) == (0, ["alice", "bob"])

            await in_real_time(built)  # the commands took theirs
            lane = await work(built, times=2)
            for _ in range(BLOCKS):
                await built.mine()
                await work(built, lane)
            assert {row.state for row in await every(built)} == {"done"}
            code, out, _ = await desk.runs("bob", "treasury", "balances", "--json")
            [shown] = [item for item in json.loads(out)["items"] if item["role"] == "warm"]
            assert (code, shown["wallet"]) == (0, "btc/warm")
            assert shown["band"]["max"] == "2"
            if left:
                assert shown["ledger"] == left
    assert 0 < await custody(built, "warm") < built.minor("btc:BTC", "1")
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()


async def test_t1_no_more_is_asked_for_than_lies_there_and_nothing_without_a_warm_wallet(
    house: BuildHouse, test_database: TestDatabase, tmp_path: Path
) -> None:
    built = await funded(await house("btc"))
    await in_real_time(built)
    await employ(built)
    from_warm = (*ASK, "--direction", "warm_to_hot", "--amount", "1")
    to_warm = (*ASK, "--direction", "hot_to_warm", "--amount")
    async with open_desk(RefillHouse(house=built), test_database, tmp_path) as desk:
        code, _, error = await desk.runs("alice", *to_warm, "1")
        assert (code, "no_warm_address" in error) == (REFUSED, True)
        code, _, error = await desk.runs("alice", *from_warm)
        assert (code, "not_enough" in error) == (REFUSED, True)
    assert await every(built) == []


async def test_t8_a_move_is_declined_after_a_dry_run_that_changes_nothing(
    house: BuildHouse, test_database: TestDatabase, tmp_path: Path
) -> None:
    built = await funded(await house("btc"))
    await in_real_time(built)
    await with_warm(built)
    async with open_desk(RefillHouse(house=built), test_database, tmp_path) as desk:
        move = await asked(desk, "hot_to_warm", "1")
        no = ("treasury", "decline", move, "--reason", "not today")
        code, out, _ = await desk.runs("alice", *no, "--dry-run")
        assert (code, "can be declined; nothing was changed" in out) == (0, True)
        assert [row.state for row in await every(built)] == ["proposed"]
        code, out, _ = await desk.runs("alice", *no, "--json")
        assert (code, json.loads(out)["state"]) == (0, "declined")
        assert [row.state for row in await every(built)] == ["declined"]


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_l18_what_is_warm_is_proven_by_its_own_key_and_covers_what_is_owed(
    network: str, house: BuildHouse, test_database: TestDatabase, tmp_path: Path
) -> None:
    built = await with_warm(await funded(await house(network)))
    row = await agree(built, await ask(built, Direction.HOT_TO_WARM, "2"))
    await run_to_rest(built)
    assert (await now(built, row)).state == "done"

    content = await Maker(house=built, test_database=test_database, folder=tmp_path).bundle()

    verdict = reserves_proof.verify(content)
    assert (verdict.is_verified, verdict.is_covered) == (True, True), verdict
    told = {check.name: check.status for check in verdict.checks}
    assert told["ownership"] is Status.PROVEN
    warm = await warm_address(built)
    held = [
        item
        for item in reserves_proof.read(content)["holdings"][network]
        if item["address"].lower() == warm.address.lower()
    ]
    amounts = [int(item["amount_minor"]) for item in held if item["asset"] == built.native]
    assert amounts == [built.minor(built.native, "2")]
