"""`cage deposits doctor` as a process of its own against a real API, beside a watcher of btc."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from config.clock import SystemClock
from config.ids import SystemIds
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, REFUSED, ROOT, USAGE, Desk
from tests.support.hosting import LoopThread
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import Watch, watching
from watchers import doctor_probe, health
from watchers.health import Observation

pytestmark = pytest.mark.postgres

DOCTOR = ("deposits", "doctor")
COIN = 10**8
NOBODYS = "ab" * 32
ANSWER_SECONDS = 60.0  # of real time, for a stuck test


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """The desk with a watcher of btc over a simulated chain; it answers the API when told to."""

    desk: Desk
    world: SimUtxo
    watch: Watch
    loop: LoopThread

    def asks(self, *arguments: str) -> tuple[int, str, str]:
        """The doctor under a key of support: exit code, stdout, stderr."""
        return self.desk.runs(*DOCTOR, *arguments, *self.desk.supporter)

    def address(self, player_id: str) -> str:
        return self.loop.run(self.watch.address(player_id)).address

    def pays(self, address: str, *, blocks: int) -> str:
        """The txid of a payment with so many blocks on it, followed; 0: only in the mempool."""

        async def work() -> str:
            txid = self.world.pay([(address, COIN)])
            if blocks:
                self.world.mine(blocks)
            await self.follows()
            return txid

        return self.loop.run(work())

    async def follows(self) -> None:
        """To the tip, and how the network stands."""
        await self.watch.follow()
        tip = await self.watch.chain.reader.tip()
        seen = Observation(
            network="btc",
            tip_height=tip.height,
            tip_hash=tip.hash,
            height=(await self.watch.position()).height,
            nodes_total=1,
            nodes_agreeing=1,
            error=None,
        )
        async with self.watch.as_watcher.unit_of_work() as uow:
            await health.observe(uow, seen, ids=self.watch.ids, at=self.watch.clock.now())

    def answers(self) -> None:
        """The watcher answers what was asked of it so far."""
        watch = self.watch
        self.loop.run(
            doctor_probe.answer_all(watch.as_watcher, watch.chain, watch.network, clock=watch.clock)
        )

    def asks_and_is_kept_waiting(self, *arguments: str) -> tuple[int, str, str]:
        """The doctor; the nodes answer only after it has told the person that it waits."""
        command = [sys.executable, "-m", "gateway.cli.main", *DOCTOR, *arguments]
        with subprocess.Popen(
            [*command, *self.desk.supporter],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            told = process.stderr.readline()
            self.answers()
            out, more = process.communicate(timeout=ANSWER_SECONDS)
        return process.returncode, out, told + more


@pytest.fixture
def ward(desk: Desk, test_database: TestDatabase, loop_thread: LoopThread) -> Iterator[Ward]:
    world, chain = sim_utxo()
    clock = SystemClock()
    opened = watching(chain, test_database, clock=clock, ids=SystemIds(clock))
    watch = loop_thread.run(asyncio.wait_for(opened.__aenter__(), ANSWER_SECONDS))
    found = Ward(desk=desk, world=world, watch=watch, loop=loop_thread)
    loop_thread.run(found.follows())
    yield found
    loop_thread.run(asyncio.wait_for(opened.__aexit__(None, None, None), ANSWER_SECONDS))


def test_n10_txid_address_and_player_are_told_apart_by_their_form(ward: Ward) -> None:
    address = ward.address("anna")
    txid = ward.pays(address, blocks=6)
    shown = "1 BTC is credited for good and may be withdrawn."
    for subject, kind, more in (
        (txid, "txid", ()),
        (address, "address", ()),
        ("anna", "player_id", ("--brand", "acme")),
    ):
        code, out, err = ward.asks(subject, *more)
        assert (code, err) == (0, "")
        assert out.splitlines()[:2] == [f"{kind} {subject}: credited", shown]
        code, out, err = ward.asks(subject, *more, "--json")
        answer = json.loads(out)
        assert (code, err, answer["kind"], answer["subject"]) == (0, "", kind, subject)
        (one,) = answer["deposits"]
        assert (one["deposit"]["txid"], one["is_credited"]) == (txid, True)


def test_n10_a_credited_deposit_is_shown_with_state_and_postings(ward: Ward) -> None:
    txid = ward.pays(ward.address("anna"), blocks=6)
    code, out, _ = ward.asks("anna", "--brand", "acme")
    assert code == 0
    _, _, _, deposit, cause, _, *postings = out.splitlines()
    assert deposit.startswith("dep_test_")
    assert deposit.endswith(f"  1 btc:BTC  final  player anna  {txid} out:0")
    assert cause == "  ok   1 BTC is credited for good and may be withdrawn."
    assert [line.split("  ")[-1] for line in postings] == [
        f"deposit:btc:{txid}:out:0:1:provisional",
        f"deposit:btc:{txid}:out:0:1:final",
    ]


def test_n10_what_is_no_form_of_ours_is_asked_as_what_the_person_says(ward: Ward) -> None:
    named = NOBODYS  # a casino whose player ids look like a txid
    txid = ward.pays(ward.address(named), blocks=6)
    code, out, _ = ward.asks(named, "--as", "player", "--brand", "acme", "--json")
    answer = json.loads(out)
    assert (code, answer["kind"], answer["verdict"]) == (0, "player_id", "credited")
    assert answer["deposits"][0]["deposit"]["txid"] == txid


def test_n10_nothing_found_is_no_success(ward: Ward) -> None:
    address = ward.address("anna")
    for subject, more in ((address, ()), ("anna", ("--brand", "acme"))):
        code, out, err = ward.asks(subject, *more, "--json")
        assert (code, json.loads(out)["verdict"], err) == (FAILED, "nothing_found", "")
    code, out, _ = ward.asks(address)
    assert (code, out.splitlines()[0]) == (FAILED, f"address {address}: nothing_found")


def test_n10_a_txid_in_the_mempool_waits_for_its_node_and_then_by_itself(ward: Ward) -> None:
    txid = ward.world.pay([(ward.address("anna"), COIN)])
    code, out, err = ward.asks_and_is_kept_waiting(txid)
    assert (code, err) == (0, "asking the nodes of btc ...\n")
    assert out.splitlines()[0] == f"txid {txid}: waiting"


def test_n10_a_lookup_for_one_brand_is_followed_for_that_brand(ward: Ward) -> None:
    code, out, err = ward.asks_and_is_kept_waiting(NOBODYS, "--brand", "acme", "--json")
    answer = json.loads(out)
    assert (code, err) == (FAILED, "asking the nodes of btc ...\n")
    assert (answer["verdict"], answer["brand"]) == ("nothing_found", "acme")
    assert [row["state"] for row in answer["networks"]] == ["answered"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("anna",), REFUSED, "brand_required"),
        (("anna", "--brand", "nobody"), FAILED, "not_found"),
        (("white space", "--brand", "acme"), REFUSED, "invalid"),
        (("anna", "--as", "txid"), REFUSED, "invalid"),
        (("0x" + NOBODYS,), REFUSED, "unknown_network"),
        (("0x" + "ab" * 20,), REFUSED, "invalid"),
        (("anna", "--as", "deposit"), USAGE, "deposit"),
        ((), USAGE, "TXID|ADDRESS|PLAYER"),
    ],
)
def test_n10_what_cannot_be_asked_is_refused_in_words(
    ward: Ward, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, out, err = ward.asks(*arguments)
    assert (found, out) == (code, "")
    assert words in err


def test_n10_without_a_key_nothing_is_asked(ward: Ward) -> None:
    code, out, err = ward.desk.runs(*DOCTOR, "anna")
    assert (code, out, "staff key" in err) == (USAGE, "", True)


def test_n10_a_key_without_the_scope_is_refused(ward: Ward) -> None:
    code, out, err = ward.desk.runs(*DOCTOR, NOBODYS, *ward.desk.admin)
    assert (code, out, "your key has not the scope" in err) == (REFUSED, "", True)
