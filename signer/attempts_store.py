"""Rows about signatures: answers by attempt, paid requests, families, nonces, epochs, counters.

Only SQL and its shapes; what the rows allow is decided in `policy`.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from signer.store import Store

QUESTION_LEVEL = 1  # zlib: half the time of the usual level, 3 % more bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorAttempt:
    """An earlier signature of a family. `fee_rank` orders replacements (sat, or wei per gas)."""

    attempt_id: str
    network: str
    txid: str
    payments_hash: str
    fee_rank: int
    outpoints: frozenset[str]
    account: str | None
    nonce: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAttempt:
    """A signature about to be remembered. Outpoints for UTXO, account and nonce for EVM.

    `reissued` are those of `requests` that had been signed in another family; `question` is what
    was asked, whole.
    """

    attempt_id: str
    fingerprint: str
    network: str
    answer: str
    txid: str
    family: str
    payments_hash: str
    fee_rank: int
    outpoints: frozenset[str]
    account: str | None
    nonce: int | None
    requests: tuple[tuple[str, str], ...]
    reissued: tuple[tuple[str, str], ...]
    question: bytes


def stored_answer(store: Store, attempt_id: str) -> tuple[str, str] | None:
    """(fingerprint of the request, answer JSON) of an attempt, or None."""
    rows = store.rows(
        "SELECT fingerprint, answer FROM attempts WHERE attempt_id = ?", (attempt_id,)
    )
    return (rows[0][0], rows[0][1]) if rows else None


def epoch_of(store: Store, network: str) -> int:
    """The newest worker epoch seen on a network, -1 for none."""
    rows = store.rows("SELECT epoch FROM epochs WHERE network = ?", (network,))
    return int(rows[0][0]) if rows else -1


def raise_epoch(store: Store, *, network: str, epoch: int) -> None:
    """Remember a newer epoch."""
    store.execute(
        "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (network) DO UPDATE"
        " SET epoch = excluded.epoch WHERE excluded.epoch > epochs.epoch",
        (network, epoch),
    )


def paid_family(store: Store, *, brand: str, request_id: str) -> str | None:
    """The family that a request is paid in: of its newest reissue, else the first one."""
    return paid_families(store, [(brand, request_id)]).get((brand, request_id))


def paid_families(store: Store, requests: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The families of those (brand, request_id) that were ever signed."""
    found = store.rows_of(
        "SELECT brand, request_id, 0, family FROM asked JOIN paid USING (brand, request_id)"
        " UNION ALL SELECT brand, request_id, round, family FROM asked"
        " JOIN reissues USING (brand, request_id) ORDER BY 3",
        requests,
    )
    return {(str(row[0]), str(row[1])): str(row[3]) for row in found}  # the newest comes last


def families_of(store: Store, *, brand: str, request_id: str) -> list[str]:
    """Every family that a request was ever signed in."""
    rows = store.rows(
        "SELECT family FROM paid WHERE brand = ?1 AND request_id = ?2 UNION"
        " SELECT family FROM reissues WHERE brand = ?1 AND request_id = ?2",
        (brand, request_id),
    )
    return [str(row[0]) for row in rows]


def family_of(store: Store, attempt_id: str) -> str | None:
    """The family of a signed attempt."""
    rows = store.rows("SELECT family FROM families WHERE attempt_id = ?", (attempt_id,))
    return str(rows[0][0]) if rows else None


def family_requests(store: Store, family: str) -> list[tuple[str, str]]:
    """The (brand, request_id) that a family was begun for."""
    rows = store.rows(
        "SELECT brand, request_id FROM paid WHERE family = ?1 UNION"
        " SELECT brand, request_id FROM reissues WHERE family = ?1",
        (family,),
    )
    return [(str(row[0]), str(row[1])) for row in rows]


def question_of(store: Store, attempt_id: str) -> bytes | None:
    """What was asked of a signed attempt, or None: never signed, or by an older version."""
    rows = store.rows("SELECT body FROM questions WHERE attempt_id = ?", (attempt_id,))
    return zlib.decompress(rows[0][0]) if rows else None


def nonce_family(store: Store, *, network: str, account: str, nonce: int) -> str | None:
    """The family that an (account, nonce) belongs to."""
    rows = store.rows(
        "SELECT family FROM nonces WHERE network = ? AND account = ? AND nonce = ?",
        (network, account, nonce),
    )
    return str(rows[0][0]) if rows else None


def family_attempts(store: Store, family: str) -> list[PriorAttempt]:
    """Every signed attempt of a family."""
    rows = store.rows(
        "SELECT a.attempt_id, a.payments_hash, a.fee_rank, a.account, a.nonce, a.network, a.txid"
        " FROM families f"
        " JOIN attempts a USING (attempt_id) WHERE f.family = ? ORDER BY a.rowid",
        (family,),
    )
    return [
        PriorAttempt(
            attempt_id=row[0],
            payments_hash=row[1],
            fee_rank=int(row[2]),
            outpoints=_outpoints(store, row[0]),
            account=row[3],
            nonce=row[4],
            network=row[5],
            txid=row[6],
        )
        for row in rows
    ]


def _outpoints(store: Store, attempt_id: str) -> frozenset[str]:
    rows = store.rows("SELECT outpoint FROM attempt_outpoints WHERE attempt_id = ?", (attempt_id,))
    return frozenset(row[0] for row in rows)


def is_own_tx(store: Store, *, network: str, txid: str) -> bool:
    """Whether this signer signed a tx of that id on that network."""
    rows = store.rows("SELECT 1 FROM attempts WHERE txid = ? AND network = ?", (txid, network))
    return bool(rows)


def is_payment_input(store: Store, *, network: str, outpoint: str, child_hash: str) -> bool:
    """Whether a signed tx other than a CPFP child (`child_hash`) spends this coin."""
    rows = store.rows(
        "SELECT 1 FROM attempt_outpoints o JOIN attempts a USING (attempt_id)"
        " WHERE o.outpoint = ? AND a.network = ? AND a.payments_hash <> ? LIMIT 1",
        (outpoint, network, child_hash),
    )
    return bool(rows)


def is_signed_input(store: Store, *, network: str, outpoint: str) -> bool:
    """Whether any signed tx spends this coin."""
    rows = store.rows(
        "SELECT 1 FROM attempt_outpoints o JOIN attempts a USING (attempt_id)"
        " WHERE o.outpoint = ? AND a.network = ? LIMIT 1",
        (outpoint, network),
    )
    return bool(rows)


def spent_since(store: Store, *, scope: str, since_seconds: int) -> int:
    """What a counter has taken after a moment, in minor units.

    Entries stamped in the future (a clock set back) count, so setting a clock back frees nothing.
    """
    rows = store.rows("SELECT amount FROM spent WHERE scope = ? AND at > ?", (scope, since_seconds))
    return sum(int(row[0]) for row in rows)


def family_counted(store: Store, family: str, *, scope: str) -> int:
    """What a counter took for all attempts of a family: each added what it had above the others."""
    rows = store.rows(
        "SELECT s.amount FROM families f JOIN spent s ON s.attempt_id = f.attempt_id"
        " WHERE f.family = ? AND s.scope = ?",
        (family, scope),
    )
    return sum(int(row[0]) for row in rows)


def add_spent(
    store: Store, *, scope: str, at_seconds: int, amount_minor: int, attempt_id: str
) -> None:
    """Count an amount, as text: wei do not fit SQLite's integers."""
    store.execute(
        "INSERT INTO spent VALUES (?, ?, ?, ?)", (scope, at_seconds, str(amount_minor), attempt_id)
    )


def record_refused(
    store: Store, *, attempt_id: str, fingerprint: str, network: str, answer: str
) -> None:
    """Remember a refusal: the same request gets the same answer for ever."""
    store.execute(
        "INSERT INTO attempts (attempt_id, fingerprint, network, answer) VALUES (?, ?, ?, ?)",
        (attempt_id, fingerprint, network, answer),
    )


def record_signed(store: Store, attempt: SignedAttempt) -> None:
    """Remember a signature with everything that later requests are held against."""
    store.execute(
        "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            attempt.attempt_id,
            attempt.fingerprint,
            attempt.network,
            attempt.answer,
            attempt.txid,
            attempt.payments_hash,
            str(attempt.fee_rank),
            attempt.account,
            attempt.nonce,
        ),
    )
    store.execute("INSERT INTO families VALUES (?, ?)", (attempt.family, attempt.attempt_id))
    store.execute_many(
        "INSERT INTO attempt_outpoints VALUES (?, ?)",
        [(attempt.attempt_id, outpoint) for outpoint in sorted(attempt.outpoints)],
    )
    is_first = attempt.family == attempt.attempt_id
    if is_first and attempt.account is not None:
        store.execute(
            "INSERT INTO nonces VALUES (?, ?, ?, ?)",
            (attempt.network, attempt.account, attempt.nonce, attempt.family),
        )
    if is_first:
        _begin(store, attempt)
    store.execute(
        "INSERT INTO questions VALUES (?, ?)",
        (attempt.attempt_id, zlib.compress(attempt.question, QUESTION_LEVEL)),
    )


def _begin(store: Store, attempt: SignedAttempt) -> None:
    """What was never signed is paid for ever; what was, begins its next round."""
    store.execute_many(
        "INSERT INTO paid VALUES (?, ?, ?)",
        [(*pair, attempt.family) for pair in attempt.requests if pair not in attempt.reissued],
    )
    store.execute_many(
        "INSERT INTO reissues SELECT ?1, ?2, 1 + coalesce(max(round), 0), ?3 FROM reissues"
        " WHERE brand = ?1 AND request_id = ?2",
        [(*pair, attempt.family) for pair in attempt.requests if pair in attempt.reissued],
    )
