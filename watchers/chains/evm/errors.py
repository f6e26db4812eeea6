"""Answers of EVM nodes to `eth_sendRawTransaction` -> `SendOutcome`.

Codes differ per client, so the text decides, case-insensitively and by substring (CHAINS B4). The
outcome is only a hint: the caller looks for our txid and for the user of our nonce (P05).
"""

from watchers.chain import SendOutcome, SendResult
from watchers.chains.errors import NotSent, RpcError
from watchers.errors import NodeUnavailable

METHOD_NOT_FOUND = -32601
METHOD_NOT_SUPPORTED = -32004
INVALID_PARAMS = -32602
REVERT_CODES = frozenset({3, -32015})  # geth, anvil; Nethermind, Parity
UNKNOWN_BLOCK_TAG = -39001  # geth: "finalized block not found"

# What nodes say of state that they have thrown away (geth, Erigon, Reth, Nethermind, anvil).
PRUNED = (
    "missing trie node",
    "historical state",
    "state not available",
    "state is not available",
    "required historical",
    "pruned",
    "state histories haven't been fully indexed",
    "no state available",
)

# Checked in this order: the first entry with a matching part decides.
MEANINGS: tuple[tuple[SendOutcome, tuple[str, ...]], ...] = (
    (
        SendOutcome.ACCEPTED,
        ("already known", "already imported", "known transaction", "already exists"),
    ),
    (SendOutcome.ALREADY_MINED, ("already mined",)),
    (
        SendOutcome.FEE_TOO_LOW,
        (
            "underpriced",
            "less than block base fee",
            "less than the block base fee",
            "fee too low",
            "gas price too low",
            "pool is full",
        ),
    ),
    # The account is short now; a top-up on its way makes the same bytes valid, so that the chain
    # decides and nothing is rebuilt.
    (
        SendOutcome.CONFLICT,
        ("nonce too low", "nonce is too low", "nonce too high", "nonce gap", "insufficient funds"),
    ),
    (
        SendOutcome.INVALID,
        (
            "chain id",
            "chainid",
            "invalid sender",
            "invalid signature",
            "intrinsic gas",
            "exceeds block gas limit",
            "gas limit",
            "oversized",
            "exceeds the configured cap",
            "priority fee per gas higher than max fee",
            "not supported",
            "rlp",
            "decode",
        ),
    ),
)


def is_unknown_method(error: RpcError) -> bool:
    """Whether the node has no such method (EIP-1474: -32004 too) or no such tracer (geth)."""
    if error.code in (METHOD_NOT_FOUND, METHOD_NOT_SUPPORTED):
        return True
    text = error.message.lower()
    return "tracer not found" in text or "calltracer is not defined" in text


def is_pruned(error: RpcError) -> bool:
    """Whether the node no longer has the state of the block that it was asked about."""
    text = error.message.lower()
    return any(part in text for part in PRUNED)


def would_fail(error: RpcError) -> bool:
    """Whether the node says of an `eth_estimateGas` that no gas is enough (geth 3 and -32000)."""
    text = error.message.lower()
    return error.code in REVERT_CODES or any(
        part in text for part in ("revert", "gas required exceeds", "out of gas", "invalid opcode")
    )


def outcome_of(error: NodeUnavailable) -> SendOutcome:
    """The meaning of a failed `eth_sendRawTransaction`; what is not known is UNCLEAR."""
    if not isinstance(error, RpcError):
        return SendOutcome.UNCLEAR
    text = error.message.lower()
    for outcome, parts in MEANINGS:
        if any(part in text for part in parts):
            return outcome
    return SendOutcome.INVALID if error.code == INVALID_PARAMS else SendOutcome.UNCLEAR


def result_of(error: NodeUnavailable) -> SendResult:
    """The result for a failed send, with the node's words."""
    detail = f"not sent: {error}" if isinstance(error, NotSent) else str(error)
    return SendResult(outcome=outcome_of(error), detail=detail)
