"""A simulated account chain with real EIP-1559 bytes, nonces, receipts and forks.

Codec and builder are the real ones; only nodes and miners are simulated. Tokens are moved by
`transfer` calls to their listed contracts; a call that cannot succeed is mined with status 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from tests.support.sim_base import SimNetwork, SimReaderBase
from tests.support.sim_evidence import hashed
from watchers.chain import (
    AccountPlan,
    AccountSend,
    AccountState,
    Block,
    BlockEvidence,
    BlockRef,
    Delegation,
    DerivedAddress,
    FeeQuote,
    Hop,
    MempoolTx,
    Outpoint,
    Pay,
    Plan,
    SafeState,
    SendOutcome,
    SendResult,
    TokenFacts,
    Transfer,
    TxOutline,
    Unsigned,
    UtxoPlan,
)
from watchers.chains.evm import build, safe
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable, UnsupportedOperation

BASE_FEE_WEI = 10**9
PRIORITY_WEI = 10**9
NATIVE_GAS = 21_000
TOKEN_GAS = 54_031  # CHAINS B4: a first transfer of a USDT-like token
FINALITY_BLOCKS = 2
BUMP_PERCENT = 10  # geth: both fee fields must rise by this much to replace
WORLD_KEY = b"\x11" * 32  # a public test vector, never a real key
WORLD_ADDRESS = Account.from_key(WORLD_KEY).address
WORLD_MINOR = 10**30
TOKEN_DECIMALS = 6
TAX_COLLECTOR = "0x" + "fe" * 20


@dataclass(frozen=True, slots=True)
class SimTx:
    """A decoded tx of an account chain."""

    txid: str
    chain_id: int
    sender: str
    nonce: int
    max_fee: int
    priority: int
    gas: int
    to: str
    value: int
    data: bytes


@dataclass(slots=True)
class State:
    """Balances by (asset, account) and nonces by account."""

    balances: dict[tuple[str, str], int]
    nonces: dict[str, int]


class SimAccount(SimNetwork[State]):
    """The world of one account chain. Accounts in `rejecting` refuse the native coin.

    `token_tax_minor`: what tokens keep of each transfer (fee-on-transfer).
    `finality_stands_at`: the chain's own finality is stuck there while blocks go on.
    """

    hash_prefix = "0x"

    def __init__(self, params: EvmParams) -> None:
        self.params = params
        self.codec = EvmAddressCodec(params)
        self.rejecting: set[str] = set()
        self.finality_stands_at: int | None = None
        self.token_tax_minor = 0
        super().__init__()

    def pay(self, asset: str, address: str, amount_minor: int) -> str:
        """Pay from outside into the pool; the txid."""
        key = WORLD_ADDRESS.lower()
        waiting = sum(decode(raw).sender == key for raw in self.pool.values())
        nonce = self.tip.state.nonces.get(key, 0) + waiting
        return self._pool_world_tx(asset, address, amount_minor, nonce=nonce, bumps=1)

    def conflict(self, txid: str) -> str:
        """Replace a tx of the outside world by one to itself at its nonce; the new txid."""
        nonce = decode(self.pool.pop(txid)).nonce
        asset = self.params.native_asset
        return self._pool_world_tx(asset, WORLD_ADDRESS, 1, nonce=nonce, bumps=2)

    def _pool_world_tx(
        self, asset: str, address: str, amount_minor: int, *, nonce: int, bumps: int
    ) -> str:
        key = WORLD_ADDRESS.lower()
        unsigned = build.build(
            AccountPlan(
                sender=DerivedAddress(address=WORLD_ADDRESS, key=key, path="m", scheme="eoa"),
                nonce=nonce,
                payment=Pay(asset=asset, address=address, amount_minor=amount_minor),
                gas_limit=build.gas_limit(asset, params=self.params),
                max_fee_per_gas=2 * BASE_FEE_WEI + bumps * PRIORITY_WEI,
                max_priority_fee_per_gas=bumps * PRIORITY_WEI,
            ),
            codec=self.codec,
            params=self.params,
        )
        raw = sign(unsigned.data, WORLD_KEY)
        txid = decode(raw).txid
        self.pool[txid] = raw
        return txid

    def genesis_state(self) -> State:
        assets = (self.params.native_asset, *self.params.tokens.values())
        world = WORLD_ADDRESS.lower()
        return State({(asset, world): WORLD_MINOR for asset in assets}, {})

    def run_block(
        self, state: State, ref: BlockRef, txs: Sequence[tuple[str, bytes]]
    ) -> tuple[State, Block, Mapping[str, bool]]:
        after = State(dict(state.balances), dict(state.nonces))
        transfers: list[Transfer] = []
        sends: list[AccountSend] = []
        for _, raw in txs:
            tx = decode(raw)
            found = self._run(after, tx)
            fee = self._fee(after, tx)
            transfers.extend(found)
            sends.append(
                AccountSend(
                    txid=tx.txid,
                    sender_key=tx.sender,
                    nonce=tx.nonce,
                    is_success=bool(found) or not (tx.value or tx.data),
                    fee_minor=fee,
                    transfers_out=tuple((t.asset, t.to_key, t.amount_minor) for t in found),
                )
            )
        effects = Block(
            ref=ref,
            transfers=tuple(transfers),
            spends=(),
            sends=tuple(sends),
            txids=tuple(send.txid for send in sends),
            raw_txs={},
        )
        return after, effects, {send.txid: send.is_success for send in sends}

    def seal(
        self, effects: Block, txs: Sequence[tuple[str, bytes]], is_success: Mapping[str, bool]
    ) -> tuple[str, BlockEvidence]:
        contracts = {asset: contract for contract, asset in self.params.tokens.items()}
        return hashed(effects, [raw for _, raw in txs], is_success, contracts)

    def _run(self, state: State, tx: SimTx) -> list[Transfer]:
        """Move what the tx moves, or nothing when it reverts."""
        state.nonces[tx.sender] = tx.nonce + 1
        asset = self.params.tokens.get(tx.to)
        if asset is None:
            asset, to, amount, position = self.params.native_asset, tx.to, tx.value, "value"
            can_pay = tx.to not in self.rejecting
        else:
            to, amount = "0x" + tx.data[16:36].hex(), int.from_bytes(tx.data[36:68], "big")
            position = "log:0"
            can_pay = state.balances.get((asset, tx.sender), 0) >= amount
        if not can_pay or amount == 0:
            return []
        tax = 0 if asset == self.params.native_asset else min(self.token_tax_minor, amount)
        state.balances[asset, tx.sender] = state.balances.get((asset, tx.sender), 0) - amount
        found = []
        for number, (key, part) in enumerate(((to, amount - tax), (TAX_COLLECTOR, tax))):
            if part == 0:
                continue
            state.balances[asset, key] = state.balances.get((asset, key), 0) + part
            place = position if number == 0 else f"log:{number}"
            found.append(
                Transfer(txid=tx.txid, position=place, asset=asset, to_key=key, amount_minor=part)
            )
        return found

    def _fee(self, state: State, tx: SimTx) -> int:
        gas = TOKEN_GAS if tx.to in self.params.tokens else NATIVE_GAS
        fee = gas * min(tx.max_fee, BASE_FEE_WEI + tx.priority)
        native = self.params.native_asset
        state.balances[native, tx.sender] = state.balances.get((native, tx.sender), 0) - fee
        return fee

    def is_minable(self, state: State, raw: bytes) -> bool:
        tx = decode(raw)
        return state.nonces.get(tx.sender, 0) == tx.nonce and self._is_funded(state, tx)

    def is_dead(self, raw: bytes) -> bool:
        tx = decode(raw)
        return tx.nonce < self.tip.state.nonces.get(tx.sender, 0)

    def pooled(self, txid: str, raw: bytes) -> MempoolTx:
        tx = decode(raw)
        if tx.to in self.params.tokens or tx.value == 0:
            return self._pooled(txid, tx, ())
        native = Transfer(
            txid=txid,
            position="value",
            asset=self.params.native_asset,
            to_key=tx.to,
            amount_minor=tx.value,
        )
        return self._pooled(txid, tx, (native,))

    def outlined(self, txid: str, raw: bytes) -> TxOutline:
        tx = decode(raw)
        asset = self.params.tokens.get(tx.to)
        if asset is None:
            return TxOutline(
                txid=txid, transfers=self.pooled(txid, raw).transfers, fee_rate=tx.max_fee
            )
        named = Transfer(
            txid=txid,
            position="call",
            asset=asset,
            to_key="0x" + tx.data[16:36].hex(),
            amount_minor=int.from_bytes(tx.data[36:68], "big"),
        )
        return TxOutline(txid=txid, transfers=(named,), fee_rate=tx.max_fee)

    def _pooled(self, txid: str, tx: SimTx, transfers: tuple[Transfer, ...]) -> MempoolTx:
        return MempoolTx(
            txid=txid, transfers=transfers, spends=(), sender_key=tx.sender, nonce=tx.nonce
        )

    def _is_funded(self, state: State, tx: SimTx) -> bool:
        held = state.balances.get((self.params.native_asset, tx.sender), 0)
        return held >= tx.value + tx.gas * tx.max_fee

    def judge(self, raw: bytes) -> tuple[str, SendResult]:
        try:
            tx = decode(raw)
        except (ValueError, TypeError, rlp.exceptions.RLPException) as error:
            return "", SendResult(outcome=SendOutcome.INVALID, detail=type(error).__name__)
        outcome, detail = self._verdict(tx)
        return tx.txid, SendResult(outcome=outcome, detail=detail)

    def _verdict(self, tx: SimTx) -> tuple[SendOutcome, str]:
        if tx.chain_id != self.params.chain_id:
            return SendOutcome.INVALID, "invalid chain id for signer"
        if tx.txid in self.pool:
            return SendOutcome.ACCEPTED, "already known"
        if tx.nonce < self.tip.state.nonces.get(tx.sender, 0):
            return SendOutcome.CONFLICT, "nonce too low"
        if not self._is_funded(self.tip.state, tx):
            return SendOutcome.CONFLICT, "insufficient funds for gas * price + value"
        if tx.max_fee < BASE_FEE_WEI:
            return SendOutcome.FEE_TOO_LOW, "max fee per gas less than block base fee"
        rival = self.rival(tx)
        if rival is not None and not _is_bumped(tx, rival):
            return SendOutcome.FEE_TOO_LOW, "replacement transaction underpriced"
        return SendOutcome.ACCEPTED, ""

    def rival(self, tx: SimTx) -> SimTx | None:
        """The pooled tx with the same account and nonce."""
        for raw in self.pool.values():
            other = decode(raw)
            if (other.sender, other.nonce) == (tx.sender, tx.nonce):
                return other
        return None

    def accept(self, txid: str, raw: bytes) -> None:
        """Put a judged tx into the pool in place of the one with its nonce."""
        rival = self.rival(decode(raw))
        if rival is not None:
            del self.pool[rival.txid]
        self.pool[txid] = raw


class SimAccountReader(SimReaderBase[State]):
    """Reads of a `SimAccount`; subclass it to inject a fault."""

    world: SimAccount

    async def finalised_height(self) -> int | None:
        stands_at = self.world.finality_stands_at
        newest = max(0, self.world.tip.ref.height - FINALITY_BLOCKS)
        return newest if stands_at is None else min(newest, stands_at)

    async def spender(self, outpoint: Outpoint) -> str | None:
        return None

    async def account_nonce(self, key: str) -> int:
        return self.world.tip.state.nonces.get(key, 0)

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        if block_hash not in self.world.active:
            raise NodeUnavailable("block is not canonical")
        balances = self.world.blocks[block_hash].state.balances
        return {key: balances.get((asset, key), 0) for key in keys}

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        return TokenFacts(decimals=TOKEN_DECIMALS, total_supply_minor=WORLD_MINOR)

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        return frozenset()

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        nonces = self.world.blocks[block_hash].state.nonces
        return {
            key: AccountState(delegation=Delegation.NONE, nonce=nonces.get(key, 0)) for key in keys
        }

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        balances = self.world.tip.state.balances
        return [
            build.TOKEN_GAS if balances.get((asset, sender), 0) >= amount else None
            for sender, _, amount in hops
        ]

    async def batch_owner(self, *, block_hash: str) -> str | None:
        return None

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        return None

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        return None

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        raise UnsupportedOperation("an account chain holds balances, not coins")


class SimAccountWriter:
    """Building and broadcast on a `SimAccount`; subclass it to inject a fault."""

    def __init__(self, world: SimAccount) -> None:
        self.world = world

    async def fee_quote(self) -> FeeQuote:
        rates = {5: 2 * PRIORITY_WEI, 20: PRIORITY_WEI, 100: PRIORITY_WEI // 2}
        return FeeQuote(rates=rates, floor=1, base_fee=BASE_FEE_WEI)

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        raise UnsupportedOperation("gas, not size")

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        return build.gas_limit(asset, legs=legs, params=self.world.params)

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        return build.expected_gas(asset, legs=legs, params=self.world.params)

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        raise UnsupportedOperation("nothing delegates on this chain")

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        return safe.gas_limit(transfer_gas=self.gas_limit(asset), signatures=signatures)

    def build(self, plan: Plan) -> Unsigned:
        if isinstance(plan, UtxoPlan):
            raise UnsupportedOperation("account plans only")
        return build.build(plan, codec=self.world.codec, params=self.world.params)

    async def send(self, raw: bytes) -> SendResult:
        txid, result = self.world.judge(raw)
        if result.outcome is SendOutcome.ACCEPTED and txid not in self.world.pool:
            self.world.accept(txid, raw)
        return result

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        return [await self.send(raw) for raw in raws]


def _is_bumped(tx: SimTx, rival: SimTx) -> bool:
    pairs = ((tx.max_fee, rival.max_fee), (tx.priority, rival.priority))
    return all(new * 100 >= old * (100 + BUMP_PERCENT) for new, old in pairs)


def decode(raw: bytes) -> SimTx:
    """A signed EIP-1559 tx."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return SimTx(
        txid="0x" + keccak(raw).hex(),
        chain_id=fields["chainId"],
        sender=Account.recover_transaction(HexBytes(raw)).lower(),
        nonce=fields["nonce"],
        max_fee=fields["maxFeePerGas"],
        priority=fields["maxPriorityFeePerGas"],
        gas=fields["gas"],
        to="0x" + bytes(fields["to"]).hex(),
        value=fields["value"],
        data=bytes(fields["data"]),
    )


def sign(payload: bytes, key: bytes) -> bytes:
    """Sign an unsigned `0x02 || rlp` payload with a test key; network bytes."""
    fields = rlp.decode(payload[1:])
    number = [int.from_bytes(item, "big") for item in fields[:5]]
    tx = {
        "type": 2,
        "chainId": number[0],
        "nonce": number[1],
        "maxPriorityFeePerGas": number[2],
        "maxFeePerGas": number[3],
        "gas": number[4],
        "to": fields[5],
        "value": int.from_bytes(fields[6], "big"),
        "data": fields[7],
        "accessList": [],
    }
    return bytes(Account.sign_transaction(tx, key).raw_transaction)
