"""A simulated UTXO chain with real tx bytes, signatures, conflicts, replacement and forks.

Codec and builder are the real ones; only nodes and miners are simulated. Coins of the outside
world have the script OP_TRUE and need no key; P2WPKH inputs need a valid signature (BIP 143).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embit import ec, hashes, script, transaction

from tests.support.sim_base import SimNetwork, SimReaderBase
from tests.support.sim_evidence import height_push, mined
from watchers.chain import (
    AccountState,
    Block,
    BlockEvidence,
    BlockRef,
    FeeQuote,
    Hop,
    MempoolTx,
    Outpoint,
    Plan,
    SafeState,
    SendOutcome,
    SendResult,
    Spend,
    TokenFacts,
    Transfer,
    TxOutline,
    Unsigned,
    UtxoPlan,
)
from watchers.chains.bitcoin import build, rawtx
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.errors import TipMoved, UnsupportedOperation

COIN = 10**8
WORLD_SCRIPT = "51"  # OP_TRUE
WORLD_COINS = 200
WORLD_COIN_MINOR = 100 * COIN
SUBSIDY_MINOR = 50 * COIN
MATURITY_BLOCKS = 100
MIN_RELAY_SAT_PER_KVB = 1000
WORLD_FEE_MINOR = 10_000
NO_OUTPOINT = Outpoint(txid="00" * 32, vout=0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class SimCoin:
    """An unspent output; `mature_at` is the first height that may spend it."""

    amount_minor: int
    key: str
    mature_at: int = 0


State = dict[Outpoint, SimCoin]


class SimUtxo(SimNetwork[State]):
    """The world of one UTXO chain."""

    def __init__(self, params: BitcoinParams, *, can_replace: bool = True) -> None:
        self.params = params
        self.can_replace = can_replace
        self.codec = BitcoinAddressCodec(params)
        self._world_coins = 0
        super().__init__()

    def pay(self, payments: Sequence[tuple[str, int]]) -> str:
        """Pay (address, satoshi) pairs from outside in one tx into the pool; its txid."""
        keys = [(self.codec.parse(address).key, amount) for address, amount in payments]
        return self.pay_scripts(keys)

    def pay_scripts(self, payments: Sequence[tuple[str, int]]) -> str:
        """The same by scriptPubKey in hex, for those that have no address."""
        number, self._world_coins = self._world_coins, self._world_coins + 1
        outpoint = Outpoint(txid=self._world_txid(number), vout=0)
        return self._pool_world_tx(outpoint, payments, fee_minor=WORLD_FEE_MINOR)

    def conflict(self, txid: str) -> str:
        """Replace a tx of the outside world by one that pays nobody; the new txid.

        Works after `rewind` too; the replaced tx leaves the pool for good.
        """
        spent = next(outpoint for outpoint, _ in _inputs(self.pool.pop(txid)))
        return self._pool_world_tx(spent, [], fee_minor=10 * WORLD_FEE_MINOR)

    def replace(self, txid: str, payments: Sequence[tuple[str, int]]) -> str:
        """Replace a tx of the outside world by one that pays these; the new txid (BIP 125)."""
        spent = next(outpoint for outpoint, _ in _inputs(self.pool.pop(txid)))
        keys = [(self.codec.parse(address).key, amount) for address, amount in payments]
        return self._pool_world_tx(spent, keys, fee_minor=10 * WORLD_FEE_MINOR)

    def spend(self, outpoint: Outpoint, payments: Sequence[tuple[str, int]]) -> str:
        """Pay from an output of the outside world that is still in the pool; the txid."""
        held = _outputs(self.pool[outpoint.txid])[outpoint.vout][1]
        keys = [(self.codec.parse(address).key, amount) for address, amount in payments]
        return self._pool_world_tx(outpoint, keys, fee_minor=WORLD_FEE_MINOR, held=held)

    def flood(self, count: int) -> None:
        """Txs of strangers in the pool, which no block takes."""
        for number in range(count):
            outpoint = Outpoint(txid=self.fingerprint("flood", number), vout=0)
            raw = _serialise([outpoint], [(WORLD_SCRIPT, 1)])
            self.pool[rawtx.reduce(raw).txid] = raw

    def _pool_world_tx(
        self,
        outpoint: Outpoint,
        keys: Sequence[tuple[str, int]],
        *,
        fee_minor: int,
        held: int = WORLD_COIN_MINOR,
    ) -> str:
        change = held - sum(amount for _, amount in keys) - fee_minor
        raw = _serialise([outpoint], [*keys, (WORLD_SCRIPT, change)])
        txid = rawtx.reduce(raw).txid
        self.pool[txid] = raw
        return txid

    def _world_txid(self, number: int) -> str:
        return self.fingerprint("world", number)

    def genesis_state(self) -> State:
        coin = SimCoin(WORLD_COIN_MINOR, WORLD_SCRIPT)
        return {Outpoint(txid=self._world_txid(n), vout=0): coin for n in range(WORLD_COINS)}

    def run_block(
        self, state: State, ref: BlockRef, txs: Sequence[tuple[str, bytes]]
    ) -> tuple[State, Block, Mapping[str, bool]]:
        after = dict(state)
        tag = height_push(ref.height).hex() + ref.hash
        base = _serialise([NO_OUTPOINT], [(WORLD_SCRIPT, SUBSIDY_MINOR)], tag=tag)
        transfers: list[Transfer] = []
        spends: list[Spend] = []
        raw_txs: dict[str, bytes] = {}
        for raw in (base, *(raw for _, raw in txs)):
            tx = self._reduced(raw, is_coinbase=raw is base)
            raw_txs[tx.txid] = raw
            transfers.extend(tx.transfers)
            spends.extend(tx.spends)
            for spend in tx.spends:
                del after[spend.outpoint]
            mature_at = ref.height + MATURITY_BLOCKS if raw is base else 0
            for number, (key, amount) in enumerate(_outputs(raw)):
                after[Outpoint(txid=tx.txid, vout=number)] = SimCoin(amount, key, mature_at)
        effects = Block(
            ref=ref,
            transfers=tuple(transfers),
            spends=tuple(spends),
            sends=(),
            txids=tuple(raw_txs),
            raw_txs=raw_txs,
        )
        return after, effects, {}

    def seal(
        self, effects: Block, txs: Sequence[tuple[str, bytes]], is_success: Mapping[str, bool]
    ) -> tuple[str, BlockEvidence]:
        return mined(effects)

    def is_minable(self, state: State, raw: bytes) -> bool:
        height = self.tip.ref.height + 1
        return all(
            outpoint in state and state[outpoint].mature_at <= height
            for outpoint, _ in _inputs(raw)
        )

    def is_dead(self, raw: bytes) -> bool:
        taken = {outpoint for other in self.pool.values() for outpoint, _ in _inputs(other)}
        return any(
            outpoint in taken or (outpoint not in self.tip.state and outpoint.txid not in self.pool)
            for outpoint, _ in _inputs(raw)
        )

    def pooled(self, txid: str, raw: bytes) -> MempoolTx:
        return self._reduced(raw, is_coinbase=False)

    def outlined(self, txid: str, raw: bytes) -> TxOutline:
        rate = self._fee(txid) * 1_000 // len(raw) if txid in self.pool else None
        return TxOutline(txid=txid, transfers=self.pooled(txid, raw).transfers, fee_rate=rate)

    def _reduced(self, raw: bytes, *, is_coinbase: bool) -> MempoolTx:
        txid = rawtx.reduce(raw).txid
        transfers = tuple(
            Transfer(
                txid=txid,
                position=f"out:{number}",
                asset=self.params.asset,
                to_key=key,
                amount_minor=amount,
                is_coinbase=is_coinbase,
            )
            for number, (key, amount) in enumerate(_outputs(raw))
            if amount
        )
        inputs = () if is_coinbase else tuple(outpoint for outpoint, _ in _inputs(raw))
        spends = tuple(Spend(txid=txid, outpoint=outpoint) for outpoint in inputs)
        return MempoolTx(txid=txid, transfers=transfers, spends=spends)

    def coins_now(self) -> State:
        """Confirmed coins and those that pooled txs make."""
        coins = dict(self.tip.state)
        for txid, raw in self.pool.items():
            for number, (key, amount) in enumerate(_outputs(raw)):
                coins[Outpoint(txid=txid, vout=number)] = SimCoin(amount, key)
        return coins

    def pool_spender(self, outpoint: Outpoint) -> str | None:
        """The pooled tx that spends an outpoint."""
        for txid, raw in self.pool.items():
            if any(spent == outpoint for spent, _ in _inputs(raw)):
                return txid
        return None

    def judge(self, raw: bytes) -> tuple[str, SendResult]:
        try:
            txid = rawtx.reduce(raw).txid
        except rawtx.BadRawTx as error:
            return "", SendResult(outcome=SendOutcome.INVALID, detail=str(error))
        outcome, detail = self._verdict(txid, raw)
        return txid, SendResult(outcome=outcome, detail=detail)

    def _verdict(self, txid: str, raw: bytes) -> tuple[SendOutcome, str]:
        if txid in self.pool:
            return SendOutcome.ACCEPTED, ""
        if any(outpoint.txid == txid for outpoint in self.tip.state):
            return SendOutcome.ALREADY_MINED, "outputs already in utxo set"
        coins = self.coins_now()
        inputs = list(_inputs(raw))
        if any(outpoint not in coins for outpoint, _ in inputs):
            return SendOutcome.CONFLICT, "bad-txns-inputs-missingorspent"
        spent = [coins[outpoint] for outpoint, _ in inputs]
        if not _is_signed(raw, spent):
            return SendOutcome.INVALID, "script failed"
        fee = sum(coin.amount_minor for coin in spent) - sum(a for _, a in _outputs(raw))
        if fee < 0:
            return SendOutcome.INVALID, "bad-txns-in-belowout"
        if fee * 1000 < MIN_RELAY_SAT_PER_KVB * len(raw) * 3 // 4:
            return SendOutcome.FEE_TOO_LOW, "min relay fee not met"
        rivals = {self.pool_spender(outpoint) for outpoint, _ in inputs} - {None}
        if rivals and not self.can_replace:
            return SendOutcome.CONFLICT, "txn-mempool-conflict"
        if any(fee < self._fee(rival or "") + len(raw) for rival in rivals):
            return SendOutcome.FEE_TOO_LOW, "insufficient fee, rejecting replacement"
        return SendOutcome.ACCEPTED, ""

    def _fee(self, txid: str) -> int:
        raw, coins = self.pool[txid], self.coins_now()
        paid_in = sum(coins[outpoint].amount_minor for outpoint, _ in _inputs(raw))
        return paid_in - sum(amount for _, amount in _outputs(raw))

    def accept(self, txid: str, raw: bytes) -> None:
        """Put a judged tx into the pool; what it replaces leaves, descendants included."""
        leaving = [self.pool_spender(outpoint) for outpoint, _ in _inputs(raw)]
        while leaving:
            rival = leaving.pop()
            if rival is None or rival == txid or rival not in self.pool:
                continue
            outputs = len(_outputs(self.pool[rival]))
            for number in range(outputs):
                leaving.append(self.pool_spender(Outpoint(txid=rival, vout=number)))
            del self.pool[rival]
        self.pool[txid] = raw


class SimUtxoReader(SimReaderBase[State]):
    """Reads of a `SimUtxo`; subclass it to inject a fault."""

    world: SimUtxo

    async def finalised_height(self) -> int | None:
        return None

    async def spender(self, outpoint: Outpoint) -> str | None:
        return self.world.pool_spender(outpoint)

    async def account_nonce(self, key: str) -> int:
        raise UnsupportedOperation("coins have no nonces")

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        raise UnsupportedOperation("a UTXO chain holds coins, not balances")

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        raise UnsupportedOperation("a UTXO chain has no tokens")

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        raise UnsupportedOperation("a UTXO chain has no code")

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        raise UnsupportedOperation("a UTXO chain has no code")

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        raise UnsupportedOperation("a UTXO chain has no gas")

    async def batch_owner(self, *, block_hash: str) -> str | None:
        raise UnsupportedOperation("a UTXO chain has no contracts")

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        raise UnsupportedOperation("a UTXO chain has no contracts")

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        raise UnsupportedOperation("a UTXO chain has no contracts")

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        tip = self.world.tip
        if tip.ref.hash != block_hash:
            raise TipMoved(f"{block_hash} is not the tip")
        return {o: tip.state[o].amount_minor for o in outpoints if o in tip.state}


class SimUtxoWriter:
    """Building and broadcast on a `SimUtxo`; subclass it to inject a fault."""

    def __init__(self, world: SimUtxo) -> None:
        self.world = world

    async def fee_quote(self) -> FeeQuote:
        floor = MIN_RELAY_SAT_PER_KVB
        return FeeQuote(rates={2: 5 * floor, 6: 2 * floor, 36: floor}, floor=floor, base_fee=0)

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        return build.size_vb(inputs=inputs, outputs=outputs)

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        raise UnsupportedOperation("no gas")

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        raise UnsupportedOperation("a UTXO chain has no gas")

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        raise UnsupportedOperation("a UTXO chain has no gas")

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        raise UnsupportedOperation("a UTXO chain has no contracts")

    def build(self, plan: Plan) -> Unsigned:
        if not isinstance(plan, UtxoPlan):
            raise UnsupportedOperation("UTXO plans only")
        return build.build(plan, codec=self.world.codec, asset=self.world.params.asset)

    async def send(self, raw: bytes) -> SendResult:
        txid, result = self.world.judge(raw)
        if result.outcome is SendOutcome.ACCEPTED and txid not in self.world.pool:
            self.world.accept(txid, raw)
        return result

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        return [await self.send(raw) for raw in raws]


def _serialise(
    outpoints: Sequence[Outpoint], outputs: Sequence[tuple[str, int]], *, tag: str = ""
) -> bytes:
    unlocking = bytes.fromhex(tag)
    vin = [
        transaction.TransactionInput(
            bytes.fromhex(o.txid), o.vout, script_sig=script.Script(unlocking)
        )
        for o in outpoints
    ]
    vout = [
        transaction.TransactionOutput(amount, script.Script(bytes.fromhex(key)))
        for key, amount in outputs
    ]
    return bytes(transaction.Transaction(version=2, vin=vin, vout=vout).serialize())


def _inputs(raw: bytes) -> Iterator[tuple[Outpoint, tuple[bytes, ...]]]:
    for item in transaction.Transaction.parse(raw).vin:
        yield Outpoint(txid=item.txid.hex(), vout=item.vout), tuple(item.witness.items)


def _outputs(raw: bytes) -> list[tuple[str, int]]:
    outputs = transaction.Transaction.parse(raw).vout
    return [(item.script_pubkey.data.hex(), item.value) for item in outputs]


def _is_signed(raw: bytes, spent: Sequence[SimCoin]) -> bool:
    tx = transaction.Transaction.parse(raw)
    return all(_is_unlocked(tx, number, coin) for number, coin in enumerate(spent))


def _is_unlocked(tx: transaction.Transaction, number: int, coin: SimCoin) -> bool:
    """OP_TRUE, P2WPKH or multisig in P2WSH, with SIGHASH_ALL signatures (BIP 141, BIP 143)."""
    if coin.key == WORLD_SCRIPT:
        return True
    items = tx.vin[number].witness.items
    if coin.key.startswith("0020"):
        return _is_multisig_unlocked(tx, number, coin, items)
    if len(items) != 2 or not coin.key.startswith("0014"):
        return False
    signature, public = items
    if hashes.hash160(public).hex() != coin.key[4:]:
        return False
    code = script.Script(b"\x76\xa9\x14" + hashes.hash160(public) + b"\x88\xac")
    return _is_by(public, signature, tx.sighash_segwit(number, code, coin.amount_minor))


def _is_multisig_unlocked(
    tx: transaction.Transaction, number: int, coin: SimCoin, items: Sequence[bytes]
) -> bool:
    """`<k> <33-byte keys> <n> OP_CHECKMULTISIG`: k signatures in the order of the keys, behind an
    empty item (BIP 147)."""
    code = bytes(items[-1]) if items else b""
    if hashes.sha256(code).hex() != coin.key[4:] or code[-1:] != b"\xae":
        return False
    publics = [code[at + 1 : at + 34] for at in range(1, len(code) - 2, 34)]
    signatures = list(items[1:-1])
    if items[0] or len(signatures) != code[0] - 0x50:
        return False
    digest = tx.sighash_segwit(number, script.Script(code), coin.amount_minor)
    for public in publics:
        if signatures and _is_by(public, signatures[0], digest):
            signatures.pop(0)
    return not signatures


def _is_by(public: bytes, signature: bytes, digest: bytes) -> bool:
    if signature[-1:] != b"\x01":
        return False
    return bool(ec.PublicKey.parse(public).verify(ec.Signature.parse(signature[:-1]), digest))
