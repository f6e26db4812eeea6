"""How one record is bound to the one before it: the hash over a canonical writing of both.

Pure. The journal's seals and the audit log's use the same form, and so does who checks an export
of them offline. The signer has its own (it shares nothing with anybody).
"""

import hashlib
import json
from collections.abc import Mapping

GENESIS_HASH = "0" * 64  # what the first record of a chain follows


def seal_hash(*, sequence: int, previous_hash: str, fields: Mapping[str, object]) -> str:
    """SHA-256, hex, of the record's text: JSON, keys sorted, no spaces, ASCII only."""
    text = json.dumps(
        {"sequence": sequence, "previous": previous_hash, "fields": fields},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()
