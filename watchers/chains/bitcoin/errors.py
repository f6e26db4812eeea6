"""Answers of Bitcoin-family nodes to `sendrawtransaction` -> `SendOutcome`.

Classified by code and the start of the text, never by the full text, which differs per version
(CHAINS B1, B3). The outcome is only a hint: the caller looks for our txid and for the spender of
our inputs (P05).
"""

from watchers.chain import SendOutcome, SendResult
from watchers.chains.errors import NotSent, RpcError
from watchers.errors import NodeUnavailable

NOT_FOUND = -5  # "No such mempool or blockchain transaction", "Block not found"
OUT_OF_RANGE = -8  # getblockhash above the tip
METHOD_NOT_FOUND = -32601

VERIFY_ERROR = -25  # missing inputs, or a fee above -maxtxfee
VERIFY_REJECTED = -26  # policy and consensus rejections
VERIFY_ALREADY_IN_CHAIN = -27
DESERIALIZATION_ERROR = -22
TRANSIENT = frozenset({-4, -7, -9, -10, -28})  # wallet, memory, not connected, IBD, warming up

ALREADY_KNOWN = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data")
FEE_TOO_LOW = (
    "min relay fee not met",
    "mempool min fee not met",
    "insufficient fee",
    "insufficient priority",
    "mempool full",
)
CHAIN_FULL = ("too-long-mempool-chain", "package-mempool-limits", "too-large-cluster")
CONFLICT = (
    "txn-mempool-conflict",
    "bad-txns-inputs-missingorspent",
    "missing-inputs",
    "missing inputs",
    "bad-txns-inputs-spent",
    "bad-txns-spends-conflicting-tx",
    "replacement-adds-unconfirmed",
    "too many potential replacements",
)
NOT_YET = (
    "non-final",
    "non-bip68-final",
    "bad-txns-premature-spend-of-coinbase",
    "bad-txns-premature-spend-of-pegout",
)


def outcome_of(error: NodeUnavailable) -> SendOutcome:
    """The meaning of a failed `sendrawtransaction`; what is not known is UNCLEAR."""
    if not isinstance(error, RpcError):
        return SendOutcome.UNCLEAR
    text = error.message.lower()
    if error.code == VERIFY_ALREADY_IN_CHAIN:
        is_pooled = text.startswith("transaction already in mempool")
        return SendOutcome.ACCEPTED if is_pooled else SendOutcome.ALREADY_MINED
    if error.code in (VERIFY_ERROR, VERIFY_REJECTED):
        return _rejection(error.code, text)
    if error.code == DESERIALIZATION_ERROR:
        return SendOutcome.INVALID
    return SendOutcome.UNCLEAR


def _rejection(code: int, text: str) -> SendOutcome:
    if text.startswith(ALREADY_KNOWN):
        return SendOutcome.ACCEPTED
    if text.startswith(CONFLICT):
        return SendOutcome.CONFLICT
    if text.startswith(FEE_TOO_LOW):
        return SendOutcome.FEE_TOO_LOW
    if text.startswith(CHAIN_FULL):
        return SendOutcome.CHAIN_FULL
    if text.startswith(NOT_YET):
        return SendOutcome.CONFLICT  # an input is not there yet, or again: look at the chain
    if code == VERIFY_ERROR and not text.startswith("fee exceeds maximum"):
        return SendOutcome.CONFLICT
    return SendOutcome.INVALID


def result_of(error: NodeUnavailable) -> SendResult:
    """The result for a failed send, with the node's words."""
    detail = f"not sent: {error}" if isinstance(error, NotSent) else str(error)
    return SendResult(outcome=outcome_of(error), detail=detail)
