"""What the door before PostgreSQL counts: statements with an effect, and their COMMITs."""

from gateway.sandbox.doors import Statements


def message(kind: bytes, body: bytes) -> bytes:
    """One message of a client."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


START = (12).to_bytes(4, "big") + b"12345678"
INSERT = message(b"P", b"one\0INSERT INTO t VALUES ($1)\0\0\0")
READ = message(b"P", b"two\0SELECT x FROM t\0\0\0")
CALL = message(b"P", b"three\0SELECT * FROM ledger.post($1)\0\0\0")


def run(name: bytes) -> bytes:
    """Bind, execute and sync of a prepared statement."""
    return message(b"B", b"\0" + name + b"\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")


def test_writes_and_commits_count_and_reads_do_not() -> None:
    asked = Statements()
    assert asked.feed(START + message(b"Q", b"BEGIN;\0")) == []
    assert asked.feed(INSERT + READ + CALL) == []
    assert asked.feed(run(b"one")) == ["write"]
    assert asked.feed(run(b"two")) == []
    assert asked.feed(run(b"three") + message(b"Q", b"COMMIT;\0")) == ["write", "commit"]


def test_a_message_in_two_chunks_counts_once_it_is_whole() -> None:
    asked = Statements()
    data = START + INSERT + run(b"one")
    assert asked.feed(data[:30]) == []
    assert asked.feed(data[30:]) == ["write"]


def test_a_commit_of_reads_and_the_upkeep_of_a_lease_do_not_count() -> None:
    asked = Statements()
    lease = message(b"P", b"four\0\n  UPDATE gateway.leases\n SET expires_at = $1\0\0\0")
    assert asked.feed(START + INSERT + READ + lease) == []
    assert asked.feed(run(b"two") + message(b"Q", b"COMMIT;\0")) == []
    assert asked.feed(run(b"four") + message(b"Q", b"COMMIT;\0")) == []
    assert asked.feed(run(b"one") + message(b"Q", b"ROLLBACK;\0")) == ["write"]
    assert asked.feed(run(b"two") + message(b"Q", b"COMMIT;\0")) == []
