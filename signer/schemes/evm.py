"""Account transactions: the signer's own reading of an EIP-1559 payload, and its signature.

Allow-list of shapes: a native transfer with empty data (of nothing only to the sender itself),
ERC-20 `transfer(address,uint256)` to a listed contract, or `pay` of the pinned batch contract. No
creation, no other selector, no access list, no other type (S10), but for what one purpose alone may
do: the batch contract's own set-up (`signer.contract_setup`), the call of a pinned Safe
(`signer.safe_calls`), and `collect` of the pinned collector (`signer.collector`), which alone may
carry authorisations (EIP-7702). It must not decide policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]
from eth_utils.crypto import keccak
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from signer.batches import Legs, decode_pay
from signer.collector import Collect, decode_collect
from signer.contract_setup import SetupCall, decode_call
from signer.errors import RefusalCode, Refused
from signer.keyring import Keyring
from signer.paths import OwnPath, parse_path
from signer.protocol import Purpose
from signer.safe_calls import SafeCall, decode_exec
from signer.settings import NetworkSettings

TYPE_EIP1559 = b"\x02"
TYPE_EIP7702 = b"\x04"
MAGIC_EIP7702 = b"\x05"  # before what an authorisation signs
FIELDS = 9  # chain id, nonce, priority, max fee, gas, to, value, data, access list
TRANSFER_SELECTOR = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
TRANSFER_BYTES = 68
MAX_PAYLOAD_BYTES = 8_192  # 100 legs and 100 authorisations
MIN_GAS = 21_000
_NONCE_LIMIT = 2**63  # EIP-2681 ends below 2**64; SQLite holds up to here


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmTx:
    """A decoded transfer. Fees in wei; `asset` is our name, `amount_minor` its units. Of a batch
    and of a collect they are the contract and the sum of its legs; of `safe`, `destination` is the
    Safe that is called."""

    sender: OwnPath
    sender_address: str
    nonce: int
    priority_fee_wei_per_gas: int
    max_fee_wei_per_gas: int
    gas_limit: int
    asset: str
    destination: bytes
    amount_minor: int
    payload: tuple[object, ...]
    batch: Legs | None = None
    setup: SetupCall | None = None
    collect: Collect | None = None
    safe: SafeCall | None = None

    @property
    def payment_count(self) -> int:
        """How many it pays; a gas limit is per payment."""
        many = self.batch or self.collect
        return 1 if many is None else len(many.legs)

    @property
    def is_noop(self) -> bool:
        """A transfer of nothing to the sender itself: it only spends the nonce."""
        return self.setup is None and self.amount_minor == 0

    @property
    def fee_max_minor(self) -> int:
        """The most it can cost, in wei."""
        return self.gas_limit * self.max_fee_wei_per_gas


def decode(
    unsigned: bytes,
    paths: Sequence[str],
    *,
    keyring: Keyring,
    network: NetworkSettings,
    purpose: Purpose = Purpose.WITHDRAWAL,
    own_paths: Mapping[int, str] | None = None,
) -> EvmTx:
    """Read a payload; raises Refused (`undecodable`, `wrong_network`, `forbidden_shape`).

    `purpose`: a set-up and a collect have shapes that are allowed for nothing else. `own_paths`:
    the deposit addresses of a collect, as `decode_collect` takes them.
    """
    is_setup, is_collect = purpose is Purpose.CONTRACT_SETUP, purpose is Purpose.COLLECT
    fields, authorisations = _parse(unsigned, is_collect=is_collect)
    numbers = [_integer(item) for item in fields[:5]]
    chain_id, nonce, priority, max_fee, gas_limit = numbers
    to, value, data, access = fields[5], _integer(fields[6]), fields[7], fields[8]
    if not isinstance(to, bytes) or not isinstance(data, bytes) or not isinstance(access, list):
        raise Refused(RefusalCode.UNDECODABLE, "a field has the wrong kind")
    if chain_id != network.chain_id or chain_id == 0:
        raise Refused(RefusalCode.WRONG_NETWORK, f"chain id {chain_id} is not {network.name}")
    is_creation = is_setup and not to
    if access or not (is_creation or (len(to) == 20 and any(to))):
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "contract creation or an access list")
    if nonce >= _NONCE_LIMIT or gas_limit < MIN_GAS or priority > max_fee:
        raise Refused(RefusalCode.UNDECODABLE, "nonce, gas limit or fees out of range")
    if len(paths) != 1:
        raise Refused(RefusalCode.FOREIGN_INPUT, "exactly one path, the sender, is required")
    sender = parse_path(paths[0], network)
    own = keyring.evm_address(sender)
    batch, setup, collect, safe = None, None, None, None
    if is_collect:
        if network.collector is None or to != network.collector:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "not a call of the pinned collector")
        collect = decode_collect(
            data, value, authorisations, own_paths or {}, keyring=keyring, network=network
        )
        asset, destination = collect.asset, to
        amount = sum(leg[1] for leg in collect.legs)
    elif purpose is Purpose.SAFE_REFILL:
        safe = decode_exec(data, value, network.assets, safe=to)
        asset, destination, amount = safe.asset, to, safe.amount_minor
    elif is_setup:
        setup = decode_call(to, value, data, network, own=own)
        asset, destination, amount = setup.asset, setup.to, setup.amount_minor
    elif network.batch_contract is not None and to == network.batch_contract:
        batch = decode_pay(data, value, network)
        asset, destination = batch.asset, to
        amount = sum(leg[1] for leg in batch.legs)
    else:
        asset, destination, amount = _transfer(to, value, data, network, own=own)
    return EvmTx(
        sender=sender,
        sender_address=own.hex(),
        nonce=nonce,
        priority_fee_wei_per_gas=priority,
        max_fee_wei_per_gas=max_fee,
        gas_limit=gas_limit,
        asset=asset,
        destination=destination,
        amount_minor=amount,
        payload=tuple(fields),
        batch=batch,
        setup=setup,
        collect=collect,
        safe=safe,
    )


def sign(tx: EvmTx, keyring: Keyring) -> tuple[bytes, str]:
    """(raw EIP-2718 tx, txid with 0x). Each signature was recovered to its account's key."""
    fields, kind = list(tx.payload), TYPE_EIP1559
    if tx.collect is not None and tx.collect.authorised:
        kind = TYPE_EIP7702
        given = tx.collect.authorised
        fields.append([_authorisation(tx, keyring, path, nonce) for path, nonce in given])
    digest = keccak(kind + rlp.encode(fields))
    raw = kind + bytes(rlp.encode([*fields, *_signature(keyring, tx.sender, digest)]))
    return raw, "0x" + keccak(raw).hex()


def _authorisation(tx: EvmTx, keyring: Keyring, path: OwnPath, nonce: int) -> list[object]:
    """Of the tx's own chain and to the contract that it calls: `decode_collect` saw to both."""
    item: list[object] = [tx.payload[0], tx.payload[5], _minimal(nonce)]
    return [*item, *_signature(keyring, path, keccak(MAGIC_EIP7702 + rlp.encode(item)))]


def _signature(keyring: Keyring, path: OwnPath, digest: bytes) -> list[bytes]:
    """y parity, r and s as they stand in a tx."""
    return [_minimal(item) for item in keyring.sign_recoverable(path, digest)]


def _transfer(
    to: bytes, value: int, data: bytes, network: NetworkSettings, *, own: bytes
) -> tuple[str, bytes, int]:
    """(asset, destination, amount) of one of the two allowed shapes, or nothing to `own`."""
    if not data:
        if any(item.contract == to for item in network.assets.values()):
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "native coin to a token contract")
        if value == 0 and to != own:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a transfer of nothing")
        return network.native.asset, to, value
    token = next((item for item in network.assets.values() if item.contract == to), None)
    is_transfer = len(data) == TRANSFER_BYTES and data.startswith(TRANSFER_SELECTOR)
    if token is None or not is_transfer or value != 0 or any(data[4:16]):
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a call that is not a listed token's transfer")
    destination, amount = data[16:36], int.from_bytes(data[36:], "big")
    if amount == 0 or not any(destination) or destination == to:
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a token transfer of nothing or to nowhere")
    return token.asset, destination, amount


def _parse(unsigned: bytes, *, is_collect: bool) -> tuple[list[object], list[object]]:
    """The nine fields of a payload, and its authorisations, which only a collect may have."""
    has_list = is_collect and unsigned[:1] == TYPE_EIP7702
    if len(unsigned) > MAX_PAYLOAD_BYTES or not (has_list or unsigned[:1] == TYPE_EIP1559):
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "not an unsigned EIP-1559 payload")
    try:
        fields = rlp.decode(unsigned[1:], strict=True)
    except (RLPException, ValueError, TypeError, IndexError, RecursionError) as error:
        raise Refused(RefusalCode.UNDECODABLE, "not RLP") from error
    if not isinstance(fields, list | tuple) or len(fields) != FIELDS + has_list:
        raise Refused(RefusalCode.UNDECODABLE, f"not {FIELDS + has_list} fields")
    fields = [_plain(item) for item in fields]
    if rlp.encode(fields) != unsigned[1:]:
        raise Refused(RefusalCode.UNDECODABLE, "not canonical RLP")
    if not has_list:
        return fields, []
    authorisations = fields.pop()
    if not isinstance(authorisations, list) or not authorisations:  # EIP-7702: never empty
        raise Refused(RefusalCode.UNDECODABLE, "no list of authorisations")
    return fields, authorisations


def _plain(item: object) -> object:
    return [_plain(part) for part in item] if isinstance(item, list | tuple) else item


def _integer(item: object) -> int:
    if not isinstance(item, bytes) or item[:1] == b"\x00" or len(item) > 32:
        raise Refused(RefusalCode.UNDECODABLE, "not a canonical integer")
    return int.from_bytes(item, "big")


def _minimal(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
