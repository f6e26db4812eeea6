"""Unsigned EIP-1559 txs: a native transfer or an ERC-20 `transfer`, nothing else.

Pure: the same plan gives the same bytes, `0x02 || rlp([chain_id, nonce, max_priority, max_fee,
gas, to, value, data, access_list])` (EIP-1559), which is what gets signed.
"""

import rlp  # type: ignore[import-untyped]

from watchers.chain import AccountPlan, Unsigned
from watchers.chains.errors import BadPlan
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.params import EvmParams

TRANSFER_SELECTOR = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
UINT256_MAX = 2**256 - 1
NONCE_MAX = 2**64 - 2  # EIP-2681
TX_TYPE = b"\x02"
# Limits leave room for contract wallets as receivers and for tokens behind proxies; what is not
# used is not paid. Measured: 21,000 and at most 58,127 (CHAINS B4).
NATIVE_GAS_LIMIT = 50_000
TOKEN_GAS_LIMIT = 100_000


def gas_limit(asset: str, *, params: EvmParams) -> int:
    """Gas limit of a transfer. BadPlan for an asset that the network does not list."""
    return NATIVE_GAS_LIMIT if _contract(asset, params) is None else TOKEN_GAS_LIMIT


def build(plan: AccountPlan, *, codec: EvmAddressCodec, params: EvmParams) -> Unsigned:
    """The payload of a plan. `InvalidAddress` for its address, `BadPlan` for its numbers."""
    payment = plan.payment
    if not 0 < payment.amount_minor <= UINT256_MAX:
        raise BadPlan("amount out of range")
    if not 0 <= plan.nonce <= NONCE_MAX:
        raise BadPlan("nonce out of range")
    if not 0 <= plan.max_priority_fee_per_gas <= plan.max_fee_per_gas or plan.gas_limit <= 0:
        raise BadPlan("fee fields do not fit (EIP-1559)")
    contract = _contract(payment.asset, params)
    receiver = bytes.fromhex(codec.parse(payment.address).key[2:])
    if contract is None:
        to, value, data = receiver, payment.amount_minor, b""
    else:
        to, value = bytes.fromhex(contract[2:]), 0
        amount = payment.amount_minor.to_bytes(32, "big")
        data = TRANSFER_SELECTOR + receiver.rjust(32, b"\x00") + amount
    fields: list[object] = [
        params.chain_id,
        plan.nonce,
        plan.max_priority_fee_per_gas,
        plan.max_fee_per_gas,
        plan.gas_limit,
        to,
        value,
        data,
        [],
    ]
    payload = TX_TYPE + bytes(rlp.encode(fields))
    return Unsigned(
        data=payload,
        fee_minor=plan.gas_limit * plan.max_fee_per_gas,
        size_vb=len(payload),
        input_paths=(plan.sender.path,),
        payment_outputs=(0,),
        change_outputs={},
    )


def _contract(asset: str, params: EvmParams) -> str | None:
    try:
        return params.contract_of(asset)
    except KeyError as error:
        raise BadPlan(f"{asset} is not listed on {params.network}") from error
