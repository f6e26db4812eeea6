"""What a tx may cost: the network's own ceilings, and how replacements are ranked.

It keeps no counter.
"""

from signer.contract_setup import DEPLOY_GAS_MAX, SetupAction
from signer.errors import RefusalCode, Refused
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings

AUTHORISATION_GAS = 25_000  # EIP-7702: PER_EMPTY_ACCOUNT_COST, charged before anything runs


def check_fee(tx: UtxoTx | EvmTx, network: NetworkSettings) -> None:
    """Raises Refused (`fee_too_high`) over a ceiling."""
    if isinstance(tx, UtxoTx):
        is_over_rate = tx.fee_minor > network.fee_rate_max * tx.vsize
    else:
        is_over_rate = tx.max_fee_wei_per_gas > network.fee_rate_max
        # The fixed part of a batch is less than what one more payment may use.
        payments = tx.payment_count + (tx.batch is not None or tx.collect is not None)
        ceiling = network.gas_limit_max * payments
        if tx.collect is not None:
            ceiling += AUTHORISATION_GAS * len(tx.collect.authorised)
        if tx.safe is not None:
            ceiling += tx.safe.gas_beside
        if tx.setup is not None and tx.setup.action is SetupAction.DEPLOY:
            ceiling = max(ceiling, DEPLOY_GAS_MAX)
        if tx.gas_limit > ceiling:
            raise Refused(RefusalCode.FEE_TOO_HIGH, "over the gas limit ceiling")
    if fee_of(tx) > network.fee_max_minor or is_over_rate:
        raise Refused(RefusalCode.FEE_TOO_HIGH, "over the network's fee ceiling")


def fee_of(tx: UtxoTx | EvmTx) -> int:
    """The fee in satoshi, or the most it can cost in wei."""
    return tx.fee_minor if isinstance(tx, UtxoTx) else tx.fee_max_minor


def rank_of(tx: UtxoTx | EvmTx) -> int:
    """What a replacement must exceed: the fee in satoshi, or the most wei per gas."""
    return tx.fee_minor if isinstance(tx, UtxoTx) else tx.max_fee_wei_per_gas
