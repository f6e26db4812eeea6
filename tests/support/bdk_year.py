"""The simulated year of `gateway.sandbox.fee_year` with BDK's wallet choosing the coins.

The mnemonic is the public test vector of BIP 39; nothing is signed and nothing leaves the process.
"""

from collections.abc import Sequence

import bdkpython as bdk

from gateway.sandbox.bench_coins import FreeCoin, spend
from gateway.sandbox.fee_year import Bill, Step, bill

MNEMONIC = "abandon " * 11 + "about"
SOMEBODY_MINOR = 10**12  # what pays the deposits


def play_bdk(steps: Sequence[Step]) -> Bill:
    """The year with BDK as it comes: branch and bound, then single random draw."""
    key = bdk.DescriptorSecretKey(
        bdk.NetworkKind.TEST, bdk.Mnemonic.from_string(MNEMONIC), password=None
    )
    kinds = (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)
    receiving, change = (
        bdk.Descriptor.new_bip84(key, kind, bdk.NetworkKind.TEST) for kind in kinds
    )
    wallet = bdk.Wallet(receiving, change, bdk.Network.REGTEST, bdk.Persister.new_in_memory())
    address = wallet.reveal_next_address(bdk.KeychainKind.EXTERNAL).address
    script = bytes(address.script_pubkey().to_bytes())
    fees = inputs = 0
    for number, step in enumerate(steps):
        somebody = FreeCoin(txid=f"{number + 1:064x}", vout=0, value=SOMEBODY_MINOR)
        _, raw = spend(somebody, [(amount, script) for amount in step.deposits])
        _see(wallet, bdk.Transaction(bytes.fromhex(raw)), 2 * number)
        draft = bdk.TxBuilder()
        for place, amount in enumerate(step.payments):
            stranger = bdk.Script(b"\x00\x14" + place.to_bytes(20, "big"))
            draft = draft.add_recipient(stranger, bdk.Amount.from_sat(amount))
        rate = bdk.FeeRate.from_sat_per_kwu(-(-step.rate_sat_per_kvb // 4))
        psbt = draft.fee_rate(rate).finish(wallet)
        fees += psbt.fee()
        tx = psbt.extract_tx()
        inputs += len(tx.input())
        _see(wallet, tx, 2 * number + 1)
    return bill(
        steps,
        fees_minor=fees,
        coins_left=len(wallet.list_unspent()),
        inputs=inputs,
    )


def _see(wallet: bdk.Wallet, tx: bdk.Transaction, moment: int) -> None:
    wallet.apply_unconfirmed_txs([bdk.UnconfirmedTx(tx=tx, last_seen=moment)])
