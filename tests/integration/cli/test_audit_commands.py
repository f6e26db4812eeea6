"""`cage audit list | verify` and bookings by hand, as processes of their own against a real API."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from config.clock import SystemClock
from config.database import Database, Uow, async_url
from gateway import audit
from ledger import journal, seals
from ledger.accounts import capital, custody
from ledger.journal import Posting, credit, debit
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, REFUSED, USAGE, Desk, hire
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

BTC = "btc:BTC"


class House:
    """What a superuser and the sealer do to the database of a desk."""

    def __init__(self, database: TestDatabase, loop: LoopThread) -> None:
        self._url = async_url(database.owner_url)
        self._loop = loop

    def seal(self) -> None:
        """What waits, of both logs."""

        async def work(uow: Uow) -> None:
            await audit.seal_next(uow)
            await seals.seal_next(uow, at=SystemClock().now())

        self._run(work)

    def change(self, *statements: str) -> None:
        """Past every trigger."""

        async def work(uow: Uow) -> None:
            await uow.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                await uow.execute(statement)

        self._run(work)

    def fund_capital(self) -> None:
        """One bitcoin of the operator's own, long ago."""
        entries = (
            debit(custody("btc", "hot", BTC), 100_000_000),
            credit(capital(BTC), 100_000_000),
        )
        posting = Posting(reference="capital", kind="test", entries=entries)
        at = SystemClock().now().replace(year=2025)

        async def work(uow: Uow) -> None:
            await journal.post(uow, posting, posting_id=uuid4(), at=at)

        self._run(work)

    def _run(self, work: Callable[[Uow], Awaitable[None]]) -> None:
        async def run() -> None:
            database = Database(self._url, pool_size=1)
            async with database.unit_of_work() as uow:
                await work(uow)
            await database.close()

        self._loop.run(run())


@pytest.fixture
def house(test_database: TestDatabase, loop_thread: LoopThread) -> House:
    return House(test_database, loop_thread)


@pytest.fixture
def people(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], list[str]]:
    """An auditor, and a second treasurer."""
    capsys.readouterr()
    config, url = tmp_path / "cage.toml", desk.treasurer[1]
    return (
        hire("aida", "auditor", config=config, url=url, capsys=capsys),
        hire("bruno", "treasury", config=config, url=url, capsys=capsys),
    )


def test_the_log_is_listed_by_what_one_looks_for(
    desk: Desk, people: tuple[list[str], list[str]]
) -> None:
    auditor, _ = people
    code, out, err = desk.runs("audit", "list", "--action", "key.", "--json", *auditor)
    rows = json.loads(out)["items"]
    assert (code, {row["action"] for row in rows}) == (0, {"key.created"}), err
    assert {row["subject"].split("-")[0] for row in rows} >= {"alice", "rita", "aida"}
    assert {row["actor"].partition(":")[0] for row in rows} == {"host"}
    code, out, _ = desk.runs("audit", "list", "--limit", "1", *auditor)
    assert (code, len(out.splitlines())) == (0, 2)
    code, _, err = desk.runs("audit", "list", *desk.supporter)
    assert code == REFUSED, err


def test_verify_tells_the_tail_and_the_first_broken_record(
    desk: Desk, people: tuple[list[str], list[str]], house: House, tmp_path: Path
) -> None:
    auditor, _ = people
    code, out, err = desk.runs("audit", "verify", "--json", *auditor)
    answer = json.loads(out)
    assert (code, answer["records"], answer["verified"]) == (0, 0, True), err
    assert answer["unsealed"] > 5
    house.seal()
    file = tmp_path / "audit.jsonl"
    code, out, err = desk.runs("audit", "verify", "--out", str(file), *auditor)
    assert (code, out.splitlines()[1:]) == (0, ["not sealed yet: 0", "verified"]), err
    assert desk.runs("audit", "verify", "--file", str(file))[0] == 0
    house.change("UPDATE gateway.audit SET actor = 'nobody' WHERE position = 2")
    code, out, _ = desk.runs("audit", "verify", "--json", *auditor)
    broken = json.loads(out)["first_broken"]
    assert (code, broken["sequence"]) == (FAILED, 2)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    code, out, _ = desk.runs("audit", "verify", "--file", str(file))
    assert (code, "first broken record: 4" in out) == (FAILED, True)


def test_l19_heads_that_were_remembered_show_a_history_written_anew(
    desk: Desk, people: tuple[list[str], list[str]], house: House, tmp_path: Path
) -> None:
    """Rows, postings and every seal of both chains: each chain holds by itself afterwards."""
    auditor, _ = people
    house.fund_capital()
    house.seal()
    anchors = tmp_path / "heads.jsonl"
    verify = ("audit", "verify", "--anchors", str(anchors), *auditor)
    assert desk.runs(*verify)[0] == USAGE
    code, _, err = desk.runs(*verify, "--remember")
    assert (code, "remembered" in err) == (0, True)
    code, out, err = desk.runs(*verify)
    assert (code, out.splitlines()[-1]) == (0, "verified"), err
    house.change(
        "UPDATE ledger.entries SET amount = 1",
        "DELETE FROM ledger.seals",
        "UPDATE gateway.audit SET actor = 'nobody'",
        "INSERT INTO gateway.audit_queue SELECT position, at FROM gateway.audit",
        "DELETE FROM gateway.audit_seals",
    )
    house.seal()
    assert desk.runs("audit", "verify", *auditor)[0] == 0
    code, out, _ = desk.runs(*verify, "--json")
    gone = [text.split(" of ")[0] for text in json.loads(out)["anchors_gone"]]
    assert (code, gone[1]) == (FAILED, "journal seal 1")
    assert gone[0].startswith("audit seal ")


def test_l19_ledger_verify_finds_an_edited_posting(desk: Desk, house: House) -> None:
    house.fund_capital()
    house.seal()
    code, out, err = desk.runs("ledger", "verify", "--json", *desk.treasurer)
    assert (code, json.loads(out)["checked"]["seals"]) == (0, 1), err
    house.change(
        "UPDATE ledger.entries SET amount = 1",
        "UPDATE ledger.pending_credits SET delta = 1",
    )
    code, out, _ = desk.runs("ledger", "verify", "--json", *desk.treasurer)
    findings = json.loads(out)["findings"]
    assert (code, [item["kind"] for item in findings]) == (FAILED, ["sealed_posting_changed"])


def test_capital_is_allocated_and_taken_back_by_two_people(
    desk: Desk, people: tuple[list[str], list[str]], house: House
) -> None:
    _, bruno = people
    house.fund_capital()
    command = (
        "treasury", "top-up", "--allocate", "acme", "--asset", BTC, "--amount", "0.25",
        "--reason", "prize money", "--confirm-amount",
    )  # fmt: skip
    code, _, err = desk.runs(*command, "0.52", *desk.treasurer)
    assert (code, "differ" in err) == (USAGE, True)
    code, out, err = desk.runs(*command, "0.25", *desk.treasurer)
    assert (code, "proposed" in out) == (0, True), err
    code, out, err = desk.runs(*command, "0.25", "--json", *bruno)
    booked = json.loads(out)
    assert (code, booked["approval"]["state"]) == (0, "done"), err
    undo = ("ledger", "reverse", booked["posting"], "--reason", "the wrong brand")
    assert desk.runs(*undo, *bruno)[0] == 0
    code, out, _ = desk.runs(*undo, *desk.treasurer)
    assert (code, "booked as post_" in out) == (0, True)
    code, _, err = desk.runs(*undo, *bruno)
    assert (code, "reversed" in err) == (REFUSED, True)
    code, out, _ = desk.runs("ledger", "trial-balance", "--json", *desk.treasurer)
    accounts = {row["account"]: row["balance"] for row in json.loads(out)["accounts"]}
    assert accounts["equity:capital:btc:BTC"] == "1"
    assert accounts["brand:acme:clearing:btc:BTC"] == "0"


@pytest.mark.parametrize(
    "arguments",
    [
        ("treasury", "top-up"),
        ("treasury", "top-up", "inf_1"),
        ("treasury", "top-up", "inf_1", "--as", "capital", "--amount", "1"),
        ("treasury", "top-up", "--allocate", "acme", "--asset", BTC),
        ("ledger", "adjust", "capital", "--asset", BTC, "--amount", "1", "--reason", "because"),
    ],
    ids=" ".join,
)
def test_what_does_not_fit_together_is_refused_before_a_key_is_used(
    desk: Desk, arguments: tuple[str, ...]
) -> None:
    assert desk.runs(*arguments)[0] == USAGE
