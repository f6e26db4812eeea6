"""`cage deposits release | reject | refund` as own processes: two people, the same command."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from config.database import Database, async_url
from ledger import journal
from ledger.accounts import Stage, custody, player
from ledger.journal import ChainEffect, Posting, credit, debit
from tests.support.clock import START, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE, Desk, hire
from tests.support.hosting import LoopThread
from watchers import addresses

pytestmark = pytest.mark.postgres

HALF = 50_000_000
DEPOSIT = "dep_test_0000000000007000800000000000000a"
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # BIP-173's program
OTHER = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"
_ROW = """
INSERT INTO chain.deposits (id, brand, player_id, network, txid, position, asset, amount,
    address_id, address, state, substatus, is_internal, is_coinbase, block_hash, height, min_depth,
    full_depth, credited_stage, custody_block_hash, custody_height, first_seen_at, state_at)
VALUES ('00000000-0000-7000-8000-00000000000a', 'acme', 'anna', 'btc', :txid, 'out:0', 'btc:BTC',
    :amount, '00000000-0000-7000-8000-00000000000b', 'bcrt1q', 'on_hold', 'player_blocked', false,
    false, :hash, 100, 2, 6, 'held', :hash, 100, now(), now())
"""


_ADDRESS = {
    "id": UUID("00000000-0000-7000-8000-00000000000b"),
    "network": "btc",
    "role": "deposit",
    "brand": "acme",
    "account": 1,
    "branch": 0,
    "address_index": 0,
    "path": "m/84h/1h/1h/0/0",
    "key": "0014" + "22" * 20,
    "address": "bcrt1q",
    "scheme": "p2wpkh",
}


@dataclass
class Held:
    """A deposit on hold, final and held in the books; the keys of three of compliance."""

    desk: Desk
    ada: list[str]
    grace: list[str]
    lin: list[str]

    def says(self, *arguments: str) -> Mapping[str, Any]:
        """What a command answers as JSON."""
        code, out, error = self.desk.runs(*arguments, "--json")
        assert code == 0, error
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def held(
    desk: Desk,
    tmp_path: Path,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    capsys: pytest.CaptureFixture[str],
) -> Held:
    async def plant() -> None:
        owner = Database(async_url(test_database.owner_url), pool_size=1)
        async with owner.unit_of_work() as uow:
            await addresses.add(uow, [_ADDRESS], at=START)
            await uow.execute(_ROW, {"txid": "aa" * 32, "hash": "bb" * 32, "amount": HALF})
            posting = Posting(
                reference=f"deposit:btc:{'aa' * 32}:out:0:1:held",
                kind="deposit_held",
                entries=(
                    debit(custody("btc", "hot", "btc:BTC"), HALF),
                    credit(player("acme", "anna", Stage.HELD, "btc:BTC"), HALF),
                ),
                effect=ChainEffect(network="btc", block_hash="bb" * 32, height=100),
            )
            await journal.post(uow, posting, posting_id=SequentialIds().new_id(), at=START)
        await owner.close()

    loop_thread.run(plant())
    capsys.readouterr()
    config, url = tmp_path / "cage.toml", desk.risk[1]

    def hired(name: str) -> list[str]:
        return hire(name, "compliance", config=config, url=url, capsys=capsys)

    return Held(desk=desk, ada=hired("ada"), grace=hired("grace"), lin=hired("lin"))


def test_a31_two_people_release_by_the_same_command(held: Held) -> None:
    release = ("deposits", "release", DEPOSIT, "--reason", "source of funds seen")
    code, out, _ = held.desk.runs(*release, *held.ada)
    assert (code, "now runs the same command" in out) == (0, True)
    assert held.desk.runs(*release, *held.desk.treasurer)[0] == REFUSED
    assert held.says(*release, *held.grace)["deposit"]["state"] == "final"
    code, _, error = held.desk.runs(*release, *held.lin)
    assert (code, "not_decidable" in error) == (REFUSED, True)


def test_d12_two_people_send_back_by_the_same_command(held: Held) -> None:
    refund = ("deposits", "refund", DEPOSIT, ADDRESS, "--confirm-amount", "0.5")
    code, _, error = held.desk.runs(*refund, *held.ada)
    assert (code, "not_rejected" in error) == (REFUSED, True)
    reject = ("deposits", "reject", DEPOSIT, "--reason", "source of funds unclear")
    assert "is rejected" in held.desk.runs(*reject, *held.ada)[1]

    code, _, error = held.desk.runs(*refund[:-1], "5", *held.ada)
    assert (code, "the amounts differ" in error) == (USAGE, True)
    assert "you would propose it" in held.desk.runs(*refund, "--dry-run", *held.ada)[1]
    first = held.says(*refund, *held.ada)
    assert (first["withdrawal"]["state"], first["signed_by"]) == ("pending_approval", ["ada"])
    assert "waits for a second person" in held.desk.runs(*refund, "--dry-run", *held.grace)[1]
    elsewhere = ("deposits", "refund", DEPOSIT, OTHER, "--confirm-amount", "0.5")
    code, _, error = held.desk.runs(*elsewhere, *held.grace)
    assert (code, "another person wants it at" in error) == (REFUSED, True)

    second = held.says(*refund, "--days", "5", *held.grace)  # the moment is the first person's
    assert (second["withdrawal"]["state"], second["signed_by"]) == ("queued", ["ada", "grace"])
    assert second["withdrawal"]["valid_until"] == first["withdrawal"]["valid_until"]
    code, _, error = held.desk.runs(*refund, *held.lin)
    assert (code, "other_content" in error or "decided" in error) == (REFUSED, True)
