"""Unsigned Bitcoin-family txs as PSBT v0 (BIP 174), and their sizes.

Pure: the same plan gives the same bytes. Inputs and outputs keep the order of the plan, change
comes last. Each input carries its whole previous tx, so that a signer can prove its amount (S04).
"""

from collections.abc import Sequence

from embit import psbt, script, transaction
from embit.base import EmbitError

from watchers.chain import Coin, Unsigned, UtxoPlan
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.errors import BadPlan
from watchers.errors import NothingToReserve

SEQUENCE_RBF = 0xFFFFFFFD  # BIP 125: signals replaceability, no relative lock time
TX_VERSION = 2
WEIGHT_PER_VB = 4
INPUT_WEIGHT = 41 * WEIGHT_PER_VB + 108  # P2WPKH: outpoint, sequence; 72-byte signature and key
SEGWIT_MARKER_WEIGHT = 2
P2WPKH_KEY = "0014" + "00" * 20  # any key of this size stands for a change output


def size_vb(*, inputs: int, outputs: Sequence[str]) -> int:
    """Signed virtual size with P2WPKH inputs and outputs to these scriptPubKeys; an upper bound."""
    plain = 8 + _varint_size(inputs) + _varint_size(len(outputs))
    plain += sum(8 + _varint_size(len(key) // 2) + len(key) // 2 for key in outputs)
    weight = plain * WEIGHT_PER_VB + SEGWIT_MARKER_WEIGHT + inputs * INPUT_WEIGHT
    return -(-weight // WEIGHT_PER_VB)


def payment_vb(key: str, *, is_alone: bool) -> int:
    """Virtual size that one payment is expected to take: a tx of its own with change, or in a
    batch its output and one input, since a house spends about as many coins as it pays."""
    if is_alone:
        return size_vb(inputs=1, outputs=[key, P2WPKH_KEY])
    with_it, without = [key, P2WPKH_KEY], [P2WPKH_KEY]
    return size_vb(inputs=2, outputs=with_it) - size_vb(inputs=1, outputs=without)


def build(plan: UtxoPlan, *, codec: BitcoinAddressCodec, asset: str) -> Unsigned:
    """The PSBT of a plan.

    Raises `InvalidAddress` for a payment's address, `NothingToReserve` when the coins do not cover
    the outputs, `BadPlan` for a plan that contradicts itself.
    """
    container, keys = container_of(plan, codec=codec, asset=asset)
    return unsigned_of(plan, container, size_vb=size_vb(inputs=len(plan.coins), outputs=keys))


def container_of(
    plan: UtxoPlan, *, codec: BitcoinAddressCodec, asset: str
) -> tuple[psbt.PSBT, list[str]]:
    """The PSBT with previous txs and nothing else, and the scriptPubKeys of its outputs: payments
    in order, then change. Raises as `build` does."""
    _check_plan(plan, asset=asset)
    keys = [codec.parse(payment.address).key for payment in plan.payments]
    amounts = [payment.amount_minor for payment in plan.payments]
    if plan.change is not None:
        keys.append(plan.change.key)
        amounts.append(plan.change_minor)
    if _fee(plan) < 0:
        raise NothingToReserve("the coins do not cover the outputs")
    return _psbt(plan.coins, keys, amounts), keys


def unsigned_of(plan: UtxoPlan, container: psbt.PSBT, *, size_vb: int) -> Unsigned:
    """What a plan became."""
    paid = len(plan.payments)
    return Unsigned(
        data=bytes(container.serialize()),
        fee_minor=_fee(plan),
        size_vb=size_vb,
        input_paths=tuple(coin.path for coin in plan.coins),
        payment_outputs=tuple(range(paid)),
        change_outputs={} if plan.change is None else {paid: plan.change.path},
    )


def _fee(plan: UtxoPlan) -> int:
    paid = sum(payment.amount_minor for payment in plan.payments)
    return sum(coin.amount_minor for coin in plan.coins) - paid - plan.change_minor


def _check_plan(plan: UtxoPlan, *, asset: str) -> None:
    if not plan.coins:
        raise NothingToReserve("no coins")
    if not plan.payments and plan.change is None:
        raise BadPlan("no outputs")
    if len({coin.outpoint for coin in plan.coins}) != len(plan.coins):
        raise BadPlan("a coin twice")
    if any(payment.asset != asset for payment in plan.payments):
        raise BadPlan(f"a payment in another asset than {asset}")
    if any(payment.amount_minor <= 0 for payment in plan.payments):
        raise BadPlan("a payment of nothing")
    if (plan.change is None) != (plan.change_minor == 0) or plan.change_minor < 0:
        raise BadPlan("change and its amount do not fit")


def _psbt(coins: Sequence[Coin], keys: Sequence[str], amounts: Sequence[int]) -> psbt.PSBT:
    inputs = [
        transaction.TransactionInput(
            bytes.fromhex(coin.outpoint.txid), coin.outpoint.vout, sequence=SEQUENCE_RBF
        )
        for coin in coins
    ]
    outputs = [
        transaction.TransactionOutput(amount, script.Script(bytes.fromhex(key)))
        for amount, key in zip(amounts, keys, strict=True)
    ]
    unsigned = transaction.Transaction(version=TX_VERSION, vin=inputs, vout=outputs, locktime=0)
    container = psbt.PSBT(unsigned)
    for scope, coin in zip(container.inputs, coins, strict=True):
        scope.non_witness_utxo = _previous_tx(coin)
    return container


def _previous_tx(coin: Coin) -> transaction.Transaction:
    """The parsed previous tx, which must contain the coin exactly as the books say."""
    try:
        reduced = rawtx.reduce(coin.previous_tx)
        previous = transaction.Transaction.parse(reduced.data)
    except (rawtx.BadRawTx, EmbitError, ValueError) as error:
        raise BadPlan(f"previous tx of {coin.outpoint.txid} does not parse") from error
    if reduced.txid != coin.outpoint.txid or coin.outpoint.vout >= len(previous.vout):
        raise BadPlan(f"previous tx of {coin.outpoint.txid} is another one")
    out = previous.vout[coin.outpoint.vout]
    if out.value != coin.amount_minor or out.script_pubkey.data.hex() != coin.key:
        raise BadPlan(f"coin {coin.outpoint.txid}:{coin.outpoint.vout} differs from its tx")
    return previous


def _varint_size(value: int) -> int:
    if value < 0xFD:
        return 1
    return 3 if value <= 0xFFFF else 5
