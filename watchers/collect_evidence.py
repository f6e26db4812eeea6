"""What a block shows of a collect, leg by leg: which deposit addresses gave what was planned.

Pure. By the tokens' logs (`AccountSend.collected`), never by the call: a leg that failed has none,
and goes back to its sweep. What moved otherwise is kept as a movement that nobody planned.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from watchers.chain import AccountSend, Collected


def collect_evidence(planned: Sequence[Mapping[str, Any]], send: AccountSend) -> dict[str, Any]:
    """Columns of `chain.outgoing`; `planned` are its payments. `is_paid_as_planned` is None where
    the tx succeeded and the reader does not know the collector: then nobody has shown anything."""
    legs: list[Collected] = [
        (item["from_key"], (item["asset"], item["key"], int(item["amount_minor"])))
        for item in planned
    ]
    rest = Counter(send.collected or ())
    moved: list[tuple[Collected, int | None]] = []
    for index, leg in enumerate(legs):
        if rest[leg] > 0:
            rest[leg] -= 1
            moved.append((leg, index))
    is_as_planned = len(moved) == len(legs) and not any(rest.values()) and not send.transfers_out
    moved += [(item, None) for item, count in rest.items() for _ in range(count)]
    moved += [((send.sender_key, item), None) for item in send.transfers_out]
    is_told = send.collected is not None or not send.is_success
    return {
        "is_success": send.is_success,
        "is_paid_as_planned": is_as_planned if is_told else None,
        "fee_minor": send.fee_minor,
        "moved": [
            {
                "asset": asset,
                "key": key,
                "amount_minor": str(amount),
                "from_key": from_key,
                **({} if index is None else {"output_index": index}),
            }
            for (from_key, (asset, key, amount)), index in moved
        ],
    }
