"""Unsigned EIP-1559 txs: a native transfer, an ERC-20 `transfer`, or a call of a contract of ours.

Pure: the same plan gives the same bytes, `0x02 || rlp([chain_id, nonce, max_priority, max_fee,
gas, to, value, data, access_list])` (EIP-1559), which is what gets signed. A collect with
authorisations is `0x04 || rlp([..., authorization_list])` (EIP-7702), each of them unsigned.
"""

from collections.abc import Sequence
from dataclasses import replace

import rlp  # type: ignore[import-untyped]

from watchers.chain import (
    AccountPlan,
    BatchPlan,
    CollectPlan,
    ContractPlan,
    SafeCallPlan,
    Unsigned,
)
from watchers.chains.errors import BadPlan
from watchers.chains.evm import batch, collect, safe
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.batch_data import creation_data, pay_data, withdraw_data
from watchers.chains.evm.params import EvmParams

TRANSFER_SELECTOR = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
UINT256_MAX = 2**256 - 1
NONCE_MAX = 2**64 - 2  # EIP-2681
TX_TYPE = b"\x02"
DELEGATING_TYPE = b"\x04"  # EIP-7702
# Limits leave room for contract wallets as receivers and for tokens behind proxies; what is not
# used is not paid. Measured: 21,000 and at most 58,127 (CHAINS B4).
NATIVE_GAS_LIMIT = 50_000
TOKEN_GAS_LIMIT = 100_000
NATIVE_GAS = 21_000
TOKEN_GAS = 60_000

OnePlan = AccountPlan | BatchPlan | CollectPlan | ContractPlan | SafeCallPlan


def gas_limit(asset: str, *, legs: int | None = None, params: EvmParams) -> int:
    """Gas limit of a transfer, or of a batch of `legs`. BadPlan for an asset that is not listed."""
    is_native = _contract(asset, params) is None
    if legs is not None:
        return batch.gas_limit(is_native=is_native, legs=legs)
    return NATIVE_GAS_LIMIT if is_native else TOKEN_GAS_LIMIT


def payment_gas(asset: str, *, params: EvmParams) -> int:
    """Gas that a transfer is expected to use. BadPlan for an asset that is not listed."""
    return NATIVE_GAS if _contract(asset, params) is None else TOKEN_GAS


def max_fee_per_gas(payload: bytes) -> int:
    """The most wei per gas that an unsigned payload of ours offers."""
    fields = rlp.decode(payload[len(TX_TYPE) :])
    return int.from_bytes(fields[3], "big")


def expected_gas(asset: str, *, legs: int | None = None, params: EvmParams) -> int:
    """Gas that a payment, or a batch of `legs`, uses as a rule."""
    return batch.expected_gas(is_native=_contract(asset, params) is None, legs=legs)


def build(plan: OnePlan, *, codec: EvmAddressCodec, params: EvmParams) -> Unsigned:
    """The payload of a plan. `InvalidAddress` for an address, `BadPlan` for its numbers."""
    if not 0 <= plan.nonce <= NONCE_MAX:
        raise BadPlan("nonce out of range")
    if not 0 <= plan.max_priority_fee_per_gas <= plan.max_fee_per_gas or plan.gas_limit <= 0:
        raise BadPlan("fee fields do not fit (EIP-1559)")
    if isinstance(plan, BatchPlan):
        outputs = tuple(range(len(plan.payments)))
        return _payload(plan, _pay_call(plan, codec=codec, params=params), outputs, params)
    if isinstance(plan, CollectPlan):
        return _collect(plan, codec=codec, params=params)
    if isinstance(plan, ContractPlan):
        return _payload(plan, _contract_call(plan, codec=codec, params=params), (), params)
    if isinstance(plan, SafeCallPlan):
        call = safe.safe_of(plan.typed), 0, safe.exec_data(plan.typed, plan.signatures)
        return _payload(plan, call, (), params)
    return _payload(plan, _transfer(plan, codec=codec, params=params), (0,), params)


def _transfer(
    plan: AccountPlan, *, codec: EvmAddressCodec, params: EvmParams
) -> tuple[bytes, int, bytes]:
    """(to, value, data) of one payment."""
    payment = plan.payment
    contract = _contract(payment.asset, params)
    receiver = bytes.fromhex(codec.parse(payment.address).key[2:])
    # Nothing to itself only spends the nonce: it takes the place of a payment that is not wanted.
    is_noop = contract is None and codec.parse(plan.sender.address).key == "0x" + receiver.hex()
    if not (0 if is_noop else 1) <= payment.amount_minor <= UINT256_MAX:
        raise BadPlan("amount out of range")
    if contract is None:
        return receiver, payment.amount_minor, b""
    return bytes.fromhex(contract[2:]), 0, _transfer_data(receiver, payment.amount_minor)


def _pay_call(
    plan: BatchPlan, *, codec: EvmAddressCodec, params: EvmParams
) -> tuple[bytes, int, bytes]:
    """(to, value, data) of a batch; the contract pays out of its own balance."""
    if params.batch_contract is None:
        raise BadPlan(f"{params.network} has no batch contract")
    if not 1 <= len(plan.payments) <= batch.LEGS_MAX or len(plan.batch_id) != 32:
        raise BadPlan("a batch has an id of 32 bytes and 1 to 100 payments")
    if len({payment.asset for payment in plan.payments}) != 1:
        raise BadPlan("a batch pays one asset")
    if any(not 0 < payment.amount_minor <= batch.AMOUNT_MAX for payment in plan.payments):
        raise BadPlan("amount out of range")
    legs = [(codec.parse(item.address).key, item.amount_minor) for item in plan.payments]
    token = _contract(plan.payments[0].asset, params)
    if any(key == token for key, _ in legs):
        raise BadPlan("a leg to the token itself")
    data = pay_data(plan.batch_id, token, legs)
    return bytes.fromhex(params.batch_contract[2:]), 0, data


def _collect(plan: CollectPlan, *, codec: EvmAddressCodec, params: EvmParams) -> Unsigned:
    """A call of the collector; its own paths are those of the legs, then of the authorisations."""
    token = _contract(plan.asset, params)
    if params.collector is None or token is None:
        raise BadPlan(f"{params.network} collects tokens, by a collector")
    collector = bytes.fromhex(params.collector[2:])
    legs = [(codec.parse(leg.deposit.address).key, leg.amount_minor) for leg in plan.legs]
    delegating = [leg for leg in plan.legs if leg.authorise_nonce is not None]
    numbers = [leg.authorise_nonce or 0 for leg in delegating]
    if any(not 0 <= number <= NONCE_MAX for number in numbers):
        raise BadPlan("nonce of an authorisation out of range")
    given: list[list[object]] = [[params.chain_id, collector, number] for number in numbers]
    built = _payload(
        plan, (collector, 0, collect.collect_data(token, legs)), (), params, authorisations=given
    )
    own = [leg.deposit.path for leg in (*plan.legs, *delegating)]
    return replace(built, change_outputs=dict(enumerate(own)))


def _contract_call(
    plan: ContractPlan, *, codec: EvmAddressCodec, params: EvmParams
) -> tuple[bytes, int, bytes]:
    """(to, value, data) of a creation, or of what the contract is given or gives back."""
    pay = plan.pay
    if pay is None:
        return b"", 0, creation_data(codec.parse(plan.sender.address).key)
    if params.batch_contract is None:
        raise BadPlan(f"{params.network} has no batch contract")
    if not 0 < pay.amount_minor <= UINT256_MAX:
        raise BadPlan("amount out of range")
    ours, token = bytes.fromhex(params.batch_contract[2:]), _contract(pay.asset, params)
    if plan.is_back:
        return ours, 0, withdraw_data(token, pay.amount_minor)
    if token is None:
        return ours, pay.amount_minor, b""
    return bytes.fromhex(token[2:]), 0, _transfer_data(ours, pay.amount_minor)


def transfer_data(to_key: str, amount: int) -> bytes:
    """Calldata of an ERC-20 `transfer`."""
    return _transfer_data(bytes.fromhex(to_key[2:]), amount)


def _transfer_data(receiver: bytes, amount: int) -> bytes:
    return TRANSFER_SELECTOR + receiver.rjust(32, b"\x00") + amount.to_bytes(32, "big")


def _payload(
    plan: OnePlan,
    call: tuple[bytes, int, bytes],
    outputs: tuple[int, ...],
    params: EvmParams,
    *,
    authorisations: Sequence[list[object]] = (),
) -> Unsigned:
    to, value, data = call
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
    kind = TX_TYPE
    if authorisations:  # EIP-7702: a list of none is no tx
        kind = DELEGATING_TYPE
        fields.append(list(authorisations))
    payload = kind + bytes(rlp.encode(fields))
    return Unsigned(
        data=payload,
        fee_minor=plan.gas_limit * plan.max_fee_per_gas,
        size_vb=len(payload),
        input_paths=(plan.sender.path,),
        payment_outputs=outputs,
        change_outputs={},
    )


def _contract(asset: str, params: EvmParams) -> str | None:
    try:
        return params.contract_of(asset)
    except KeyError as error:
        raise BadPlan(f"{asset} is not listed on {params.network}") from error
