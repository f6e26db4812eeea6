"""Setting up the batch contract: deployed, funded and withdrawn from by two people (CONTRACT 8).

The signer reads the call with its own code: a creation of exactly the pinned contract, owned by the
account that creates it; a transfer to the pinned address; or the contract's `withdraw`, which pays
its owner and nobody else. Two people sign the same words, and each reference is signed for once.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from eth_utils.crypto import keccak

from signer.authorisation import StaffRequests
from signer.batches import OWNER_LANE, WORD
from signer.errors import RefusalCode, Refused
from signer.orders import amount_minor
from signer.paths import Role
from signer.protocol import ProtocolError, SignRequest, strict_loads

if TYPE_CHECKING:
    from signer.schemes.evm import EvmTx
    from signer.settings import AssetSettings, NetworkSettings

CREATION_HASH = "0xceba331ba14bad36355801ca74b2665678c6ee235fd1054c5f675b580c4ad57a"
"""keccak of the creation code of `contracts/build/BatchPayer.json`, without its argument."""
WITHDRAW_SELECTOR = bytes.fromhex("f3fef3a3")  # withdraw(address,uint256)
TRANSFER_SELECTOR = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
DEPLOY_GAS_MAX = 1_500_000  # a creation uses some 600,000
PEOPLE_NEEDED = 2
BODY_BYTES_MAX = 4_096
ROUTE = re.compile(r"/v1/contract_setups", re.ASCII)
BRAND = ""
"""In the store's register of what was signed once: no client is called so."""

_REFERENCE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class SetupAction(StrEnum):
    """What people may do with the contract."""

    DEPLOY = "deploy"
    """Create it; hot lane 0 owns it."""
    FUND = "fund"
    """From hot lane 0 to the contract."""
    WITHDRAW = "withdraw"
    """From the contract back to hot lane 0."""


_SUBJECT = {"action", "network", "reference"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupCall:
    """A decoded call. `asset` is empty for a creation."""

    action: SetupAction
    asset: str
    to: bytes
    amount_minor: int


def decode_call(
    to: bytes, value: int, data: bytes, network: "NetworkSettings", *, own: bytes
) -> SetupCall:
    """One of the allowed calls; raises Refused (`forbidden_shape`)."""
    if not to:
        return _creation(value, data, own=own)
    contract = network.batch_contract
    if contract is None:
        raise _bad("no batch contract is pinned")
    if to == contract:
        return _call_of_contract(value, data, network, contract)
    token = next((item for item in network.assets.values() if item.contract == to), None)
    is_transfer = len(data) == 68 and data.startswith(TRANSFER_SELECTOR) and not any(data[4:16])
    amount = int.from_bytes(data[36:], "big")
    if token is None or not is_transfer or value != 0 or data[16:36] != contract or amount == 0:
        raise _bad("neither a creation, nor a transfer to the contract, nor a call of it")
    return SetupCall(action=SetupAction.FUND, asset=token.asset, to=contract, amount_minor=amount)


def _creation(value: int, data: bytes, *, own: bytes) -> SetupCall:
    code, argument = data[:-WORD], data[-WORD:]
    if value != 0 or "0x" + keccak(code).hex() != CREATION_HASH:
        raise _bad("a creation of another contract than the pinned one")
    if argument != own.rjust(WORD, b"\x00"):
        raise _bad("a contract that somebody else would own")
    return SetupCall(action=SetupAction.DEPLOY, asset="", to=b"", amount_minor=0)


def _call_of_contract(
    value: int, data: bytes, network: "NetworkSettings", contract: bytes
) -> SetupCall:
    if not data:
        if value == 0:
            raise _bad("a transfer of nothing")
        asset = network.native.asset
        return SetupCall(action=SetupAction.FUND, asset=asset, to=contract, amount_minor=value)
    token, amount = data[4:36], int.from_bytes(data[36:], "big")
    asset_of = {(item.contract or bytes(20)): item for item in network.assets.values()}
    found: AssetSettings | None = asset_of.get(token[12:])
    is_withdraw = len(data) == 68 and data.startswith(WITHDRAW_SELECTOR) and not any(token[:12])
    if not is_withdraw or value != 0 or found is None or amount == 0:
        raise _bad("a call of the contract that gives nothing back")
    return SetupCall(
        action=SetupAction.WITHDRAW, asset=found.asset, to=contract, amount_minor=amount
    )


def approved(
    request: SignRequest, tx: "EvmTx", network: "NetworkSettings", staff: StaffRequests
) -> tuple[tuple[str, str], list[str | int]]:
    """What is signed for once, and the words that make two set-ups the same; raises Refused unless
    two people signed exactly this (`needs_staff`)."""
    call = tx.setup
    if call is None or request.own_path is not None or request.change_paths:
        raise Refused(RefusalCode.BAD_REQUEST, "a set-up has no own path and no change")
    if tx.sender.role is not Role.HOT or tx.sender.index != OWNER_LANE:
        raise Refused(RefusalCode.BAD_PATH, "the contract is set up by its owner, hot lane 0")
    people: dict[str, set[str]] = {}
    flaw = ""
    for claim in request.approvals:
        try:
            person = staff.person(claim, route=ROUTE)
            reference = _read(claim.body, call, network)
        except Refused as error:
            flaw = f"; an approval does not hold: {error.reason}"
            continue
        people.setdefault(reference, set()).add(person)
    found = [name for name, signed in people.items() if len(signed) >= PEOPLE_NEEDED]
    if len(found) != 1:
        reason = f"{call.action.value} of the contract takes {PEOPLE_NEEDED} people"
        raise Refused(RefusalCode.NEEDS_STAFF, reason + flaw)
    said = ["setup", call.action.value, call.asset, call.to.hex(), call.amount_minor]
    return (BRAND, f"{network.name}:{found[0]}"), said


def _read(body: bytes, call: SetupCall, network: "NetworkSettings") -> str:
    """The reference of a body that says this call; raises Refused."""
    if len(body) > BODY_BYTES_MAX:
        raise Refused(RefusalCode.NEEDS_STAFF, "the body is too large")
    try:
        raw: dict[str, Any] = strict_loads(body)
    except ProtocolError as error:
        raise Refused(RefusalCode.NEEDS_STAFF, f"the body: {error}") from error
    is_move = call.action is not SetupAction.DEPLOY
    wanted = _SUBJECT | ({"asset", "amount"} if is_move else set())
    if set(raw) != wanted or any(not isinstance(item, str) for item in raw.values()):
        raise Refused(RefusalCode.NEEDS_STAFF, f"the body is not that of {call.action.value}")
    if (raw["action"], raw["network"]) != (call.action.value, network.name):
        raise Refused(RefusalCode.NEEDS_STAFF, "signed for something else")
    if _REFERENCE.fullmatch(raw["reference"]) is None:
        raise Refused(RefusalCode.NEEDS_STAFF, "reference: 1 to 64 of A-Z a-z 0-9 _ . -")
    if is_move:
        asset = network.assets[call.asset]
        amount = amount_minor(raw["amount"], decimals=asset.decimals, field="amount")
        if (raw["asset"], amount) != (call.asset, call.amount_minor):
            raise Refused(RefusalCode.NEEDS_STAFF, "signed for another asset or amount")
    return str(raw["reference"])


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.FORBIDDEN_SHAPE, reason)
