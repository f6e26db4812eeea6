"""Request keys, fingerprints and stored answers (CONTRACT 3, A01-A06).

The key's row is inserted first, in the same unit of work as everything the call does, and holds
the answer when that commits: after a crash either all of it stands or nothing does. A second call
with the key waits on the row's unique index and then finds the answer. It must not know what the
call does.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config.database import Uow
from gateway import idempotency_store as store
from gateway.errors import Invalid, Malformed

KEY_HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The first answer to a key."""

    status: int
    body: bytes


def check_key(key: str | None, *, is_required: bool) -> str | None:
    """The key as given. Raises Malformed when it is required and missing (A05) or unusable."""
    if key is None:
        if is_required:
            raise Malformed(
                "idempotency_key_required", f"{KEY_HEADER} is required on calls that move money."
            )
        return None
    if not _KEY.fullmatch(key):
        raise Malformed(
            "idempotency_key_invalid",
            f"{KEY_HEADER} has 1 to 255 printable ASCII characters without spaces.",
        )
    return key


def canonical_json(value: Any) -> bytes:
    """JSON without regard to the order of keys or to spaces (A02)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode("utf-8")


def fingerprint(*, method: str, path: str, query: str, body: Any) -> bytes:
    """What the key stands for: the call and its content."""
    parts = (method.encode(), path.encode(), query.encode(), canonical_json(body))
    return hashlib.sha256(b"\n".join(parts)).digest()


def scope_of(*, key_id: str, brand: str | None) -> str:
    """A brand's keys share one space, every other key has its own, whatever it is named."""
    return f"key:{key_id}" if brand is None else f"brand:{brand}"


async def begin(
    uow: Uow, *, scope: str, key: str, print_: bytes, at: datetime
) -> StoredAnswer | None:
    """Claim the key for this unit of work: None, or the stored answer of the first call.

    Raises Invalid (`idempotency_mismatch`) when the key stands for something else.
    """
    if await store.insert(uow, scope=scope, key=key, print_=print_, at=at):
        return None
    row = await store.get(uow, scope=scope, key=key)
    if row is None:
        raise RuntimeError("an idempotency row conflicted and is not there")
    if row.print_ != print_:
        raise Invalid("idempotency_mismatch", f"This {KEY_HEADER} was used for another request.")
    if row.status is None or row.body is None:
        raise RuntimeError("a committed idempotency row has no answer")
    return StoredAnswer(status=row.status, body=row.body)


async def finish(uow: Uow, *, scope: str, key: str, answer: StoredAnswer) -> None:
    """Store the answer beside what it tells of."""
    await finish_many(uow, scope=scope, answers={key: answer})


async def finish_many(uow: Uow, *, scope: str, answers: Mapping[str, StoredAnswer]) -> None:
    """`finish` of many keys."""
    rows = [(key, answer.status, answer.body) for key, answer in answers.items()]
    if rows:
        await store.finish_many(uow, scope=scope, answers=rows)
