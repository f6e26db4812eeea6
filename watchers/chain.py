"""The `Chain` interface: what the house needs of any blockchain, and its value types.

Owns no state and talks to nothing. One implementation per family lives in `watchers/chains/`; a
fake that passes the same conformance suite lives in `tests/support`. All amounts are integers in
minor units (satoshi, wei, token base units); all hashes and txids are lower-case hex as the node
displays them (EVM with 0x).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from watchers.batches import BatchEvidence as BatchEvidence
from watchers.batches import BatchLeg as BatchLeg
from watchers.batches import Collected as Collected
from watchers.batches import Movement as Movement
from watchers.plans import AccountPlan as AccountPlan
from watchers.plans import AccountState as AccountState
from watchers.plans import BatchPlan as BatchPlan
from watchers.plans import CollectLeg as CollectLeg
from watchers.plans import CollectPlan as CollectPlan
from watchers.plans import ContractPlan as ContractPlan
from watchers.plans import Delegation as Delegation
from watchers.plans import DerivedAddress as DerivedAddress
from watchers.plans import Pay as Pay
from watchers.safes import SafeCallPlan as SafeCallPlan
from watchers.safes import SafePlan as SafePlan
from watchers.safes import SafeState as SafeState


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """A block by hash; the height alone is never an identity (CASES law 2)."""

    height: int
    hash: str
    parent_hash: str
    time_seconds: int
    """The miner's claim, Unix seconds; never used to decide money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One asset to one script or account in one tx; evidence of effect, never of intent.

    `position` is typed text (CONTRACT 4): `out:3`, `log:2` (ordinal in the receipt), `value`,
    `trace:0.1` (call frame in the tx). `asset` is the registry id, e.g. `eth:USDT`, or for a token
    that is not listed `<network>:0x<contract>` in lower case. `to_key` is the match key:
    scriptPubKey hex (UTXO) or 20-byte address as lower-case 0x hex (EVM).
    """

    txid: str
    position: str
    asset: str
    to_key: str
    amount_minor: int
    is_coinbase: bool = False


Hop = tuple[str, str, int]
"""Sender, receiver and amount of one asset: a transfer that may be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outpoint:
    """A UTXO's identity."""

    txid: str
    vout: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """An input of `txid` that consumes `outpoint` (UTXO families only)."""

    txid: str
    outpoint: Outpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSend:
    """A mined tx of an account chain, by sender and nonce (EVM families only).

    `fee_minor` is what the chain took from the sender, native coin. `is_success` is receipt
    status 1. `transfers_out` lists what left by it: (asset, to_key, amount) of listed assets by
    evidence (value with status 1, or Transfer logs from `sender`), `batch` what left our batch
    contract by it, and `collected` what our collector took by it, by the same logs;
    None where it is not called.
    """

    txid: str
    sender_key: str
    nonce: int
    is_success: bool
    fee_minor: int
    transfers_out: tuple[Movement, ...]
    batch: BatchEvidence | None = None
    collected: tuple[Collected, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TxProof:
    """That one tx is in one block; everything as it hashes, so that a stranger can check it.

    UTXO: `branch` holds the siblings from the leaf up (32 bytes each, hash byte order), and
    `companion` is the coinbase with its branch: its depth shows that the tx is no inner node of
    the tree (CVE-2017-12842). EVM: `branch` holds the nodes of the transactions trie from the root
    down, and `companion` is the encoded receipt (EIP-2718) with its nodes of the receipts trie.
    """

    txid: str
    index: int
    raw_tx: bytes
    branch: tuple[bytes, ...]
    companion: bytes
    companion_branch: tuple[bytes, ...]


class BlockEvidence(Protocol):
    """What a verified block can prove about its txs; pure, no I/O."""

    @property
    def header(self) -> bytes:
        """The header as it hashes: 80 bytes (UTXO) or RLP (EVM); empty where it is not known."""

    @property
    def unproven(self) -> str | None:
        """Why nothing of this block can be proven (a shape that is not known), else None."""

    def prove(self, txid: str) -> TxProof | None:
        """The proof of a tx of this block; None when it is not in it, or nothing is proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Who gave a block: labels of the nodes that gave the same effects, of `nodes` configured.

    `transfers` are those that they gave, whatever the house withholds of them later.
    """

    given_by: tuple[str, ...]
    nodes: int
    transfers: tuple[Transfer, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block reduced to its effects, complete or not returned at all."""

    ref: BlockRef
    transfers: tuple[Transfer, ...]
    spends: tuple[Spend, ...]
    sends: tuple[AccountSend, ...]
    txids: tuple[str, ...]
    raw_txs: Mapping[str, bytes]
    """UTXO: network bytes by txid (of all txs; the follower keeps only those that pay us)."""
    evidence: BlockEvidence | None = field(default=None, compare=False, repr=False)
    """Set by every reader that verified the block against its own header."""
    gifts: tuple[Transfer, ...] = ()
    """EVM: value that nobody paid (`SELFDESTRUCT`, EIP-4895); never a deposit (D47)."""
    traces_incomplete: bool = False
    """EVM: calls inside the txs could not be read; value moved by them is not in `transfers`."""
    agreement: Agreement | None = field(default=None, compare=False, repr=False)
    """Set by the reader that asks several nodes; None where one reader is the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolTx:
    """An unconfirmed tx, reduced like a block's. EVM: native value only, position `value`, and
    whose it is at which nonce: two txs of one sender and nonce exclude each other.

    `fee_rate` is what it pays now, as in `FeeQuote.rates` but with the base fee, where the node
    told; only an ETA may rest on it (R10).
    """

    txid: str
    transfers: tuple[Transfer, ...]
    spends: tuple[Spend, ...]
    sender_key: str | None = None
    nonce: int | None = None
    fee_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TxOutline:
    """What one tx says that it would move, in a block or not: intent, for explanations only.

    EVM: its value, and the token that a plain ERC-20 `transfer` names. `fee_rate` is what an
    unconfirmed tx offers (sat per kvB; wei per gas at most), None where the node does not tell.
    """

    txid: str
    transfers: tuple[Transfer, ...]
    fee_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What a token's contract says of itself at a block; None where it does not answer."""

    decimals: int | None
    total_supply_minor: int | None


class TxPlace(StrEnum):
    """Where a node sees a tx."""

    MINED = "mined"
    """In a block of the node's active chain."""
    MEMPOOL = "mempool"
    """Unconfirmed, known to the node."""
    UNKNOWN = "unknown"
    """Neither; says nothing about other nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxStatus:
    """A node's answer about one txid."""

    place: TxPlace
    block: BlockRef | None = None
    is_success: bool | None = None


class SendOutcome(StrEnum):
    """The meaning of a node's answer to a broadcast; only a hint, the chain decides (P05)."""

    ACCEPTED = "accepted"
    """In the node's mempool now (or was already)."""
    ALREADY_MINED = "already_mined"
    """The node says the tx or its outputs are in the chain."""
    FEE_TOO_LOW = "fee_too_low"
    """Refused for its fee; the same bytes may be accepted later."""
    CHAIN_FULL = "chain_full"
    """Too many unmined relatives, whatever it pays; the same bytes may be accepted later."""
    CONFLICT = "conflict"
    """Inputs missing or spent, nonce too low, mempool conflict: resolve by looking at the chain."""
    INVALID = "invalid"
    """The node calls the tx invalid (script, chain id, size): a person must look."""
    UNCLEAR = "unclear"
    """Time-out, 5xx, unreadable answer: the tx may or may not have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    outcome: SendOutcome
    detail: str
    """The node's words, redacted, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A parsed address: canonical text and match key."""

    address: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeQuote:
    """What inclusion costs now. UTXO: sat per kvB. EVM: wei per gas.

    `rates` maps the inclusion target in blocks to the rate; `floor` is the mempool minimum. For EVM
    a rate is the priority fee and `base_fee` is that of the next block; UTXO has base_fee 0.
    """

    rates: Mapping[int, int]
    floor: int
    base_fee: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """A UTXO that we own, with what the signer needs to prove its amount (BIP 174)."""

    outpoint: Outpoint
    amount_minor: int
    key: str
    path: str
    previous_tx: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoPlan:
    """What to build on a UTXO chain; `change` is None when there is none."""

    coins: tuple[Coin, ...]
    payments: tuple[Pay, ...]
    change: DerivedAddress | None
    change_minor: int


Plan = UtxoPlan | AccountPlan | BatchPlan | CollectPlan | ContractPlan | SafeCallPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """A built, unsigned tx: PSBT v0 bytes or the EIP-1559 payload `0x02 || rlp`.

    `fee_minor` is exact for UTXO and the cap (gas limit x max fee) for EVM. `payment_outputs` gives
    the output index of each payment in order (EVM: 0, of a batch the index of its leg);
    `change_outputs` index -> own path.
    """

    data: bytes
    fee_minor: int
    size_vb: int
    input_paths: tuple[str, ...]
    payment_outputs: tuple[int, ...]
    change_outputs: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What a node says of itself. `version` as numbers, most significant first; None: untold."""

    version: tuple[int, ...] | None
    version_text: str
    is_syncing: bool


class NodeDescriber(Protocol):
    """One node's word about itself; `NodeUnavailable` or `WrongNetwork` as with reads."""

    async def describe(self) -> NodeInfo: ...


class AddressCodec(Protocol):
    """Text <-> keys of one network; pure."""

    def parse(self, text: str) -> Destination:
        """The destination, or `InvalidAddress` with reason and remedy (A14-A19)."""

    def derive(self, *, xpub: str, account: int, chain: int, index: int) -> DerivedAddress:
        """The address at `<account>/chain/index` below an account-level xpub (BIP 32/44/84)."""

    def uri(self, address: str) -> str:
        """BIP-21 for UTXO chains, the plain address elsewhere."""


class ChainReader(Protocol):
    """What a node says. Every call raises `NodeUnavailable` on error, null or nonsense."""

    async def check_identity(self) -> None:
        """`WrongNetwork` unless genesis or chain id is the configured one (D62, N02)."""

    async def tip(self) -> BlockRef: ...

    async def finalised_height(self) -> int | None:
        """The chain's own finality where it exists (`finalized` tag), else None."""

    async def ref_at(self, height: int) -> BlockRef | None:
        """The active chain's header at a height, or None above the tip."""

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        """The active chain's headers from a height up, `count` at most; none above the tip."""

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        """A header by hash, active or not; None when the node does not know it."""

    async def block(self, block_hash: str) -> Block:
        """The complete effects of one block by hash; never partial (N10, N11)."""

    async def mempool(self) -> Sequence[MempoolTx]:
        """Unconfirmed txs that the reader has not reported since it last saw them leave."""

    async def tx_status(self, txid: str) -> TxStatus: ...

    async def tx_statuses(self, txids: Sequence[str]) -> Sequence[TxStatus]:
        """`tx_status` of each, in order, in fewer calls where the node can; all or an error."""

    async def outline(self, txid: str) -> TxOutline | None:
        """What a tx says that it would move; None when the node does not know it."""

    async def spender(self, outpoint: Outpoint) -> str | None:
        """The txid that spends an outpoint where the node can tell (UTXO), else None."""

    async def account_nonce(self, key: str) -> int:
        """Mined nonce count of an account (EVM); UTXO raises UnsupportedOperation."""

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        """Balance per key at a block hash (account chains; bounded batches)."""

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        """What the contract of a listed token says of itself (account chains)."""

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        """Those of `keys` that have code at a block (account chains; EIP-7702, D48); a delegation
        to our own collector is none."""

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        """Delegation and next number of each account at a block (account chains)."""

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        """Gas that each of a listed token would use now, None where it would fail: one node's word,
        a hint before gas is spent (account chains)."""

    async def batch_owner(self, *, block_hash: str) -> str | None:
        """The account that our batch contract obeys; None where its address holds no such code at
        this block, or the network has none (account chains)."""

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        """The key of our batch contract that an account created by this nonce; None where no such
        code stands at this block, or it obeys somebody else (account chains)."""
        ...

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        """The Safe that is the cold wallet, at a block; None where the network has none, or what
        stands there is no Safe whose rules are known (account chains)."""
        ...

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        """Unspent outputs among `outpoints` with their amounts, mempool ignored, valid for
        `block_hash` being the tip during the call; else `TipMoved` (UTXO chains)."""


class ChainWriter(Protocol):
    """What we ask a node to do, and what we build for it."""

    async def fee_quote(self) -> FeeQuote: ...

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        """Signed virtual size of a tx with P2WPKH inputs and outputs to these match keys."""

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        """Gas limit of a transfer of this asset, or of a batch of so many legs (EVM)."""

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        """Gas that a payment, or a batch of `legs`, uses as a rule, to compare the two (EVM)."""

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        """(gas limit, gas expected) of a collect of so many legs, so many of which delegate in it
        (EVM)."""

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        """Gas limit of a call by which a Safe transfers this asset (EVM)."""

    def build(self, plan: Plan) -> Unsigned:
        """The unsigned tx; pure, so that the same plan gives the same bytes."""

    async def send(self, raw: bytes) -> SendResult:
        """Broadcast signed bytes once; never retried below this call."""

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        """`send` of each, in order, in fewer calls where the node can; each answer is judged by
        itself, and a lost one leaves all of its message UNCLEAR."""


class Chain(Protocol):
    """One network through one set of nodes."""

    @property
    def network(self) -> str:
        """Network name: `btc`, `ltc`, `eth`."""

    @property
    def family(self) -> str:
        """`bitcoin` or `evm`."""

    @property
    def codec(self) -> AddressCodec: ...

    @property
    def reader(self) -> ChainReader: ...

    @property
    def writer(self) -> ChainWriter: ...

    async def close(self) -> None:
        """Close node connections."""
