"""The collector: what deposit addresses may delegate to, and what is collected by it (CONTRACT 8).

Its address follows from its creation code and from own keys (EIP-1014), so that nothing else can
ever stand there: whom it obeys (gas account 0) and whom it pays (hot lane 0) are in that code. The
signer derives the address itself and reads `collect` with its own code; an authorisation (EIP-7702)
is signed for that address alone, on one chain, at one number, for a deposit address of the call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from signer.errors import ConfigurationError, RefusalCode, Refused
from signer.keyring import Keyring
from signer.paths import OwnPath, Role, account_path, parse_path
from signer.settings import NetworkSettings, Settings

if TYPE_CHECKING:
    from signer.settings import AssetSettings

FACTORY = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
"""Arachnid's deterministic deployment proxy. Whatever it is, CREATE2 binds what it creates to the
hash of the creation code: no other code comes to stand at the derived address."""
SALT = bytes(32)
CREATION_HASH = "0x6f54cffa0c423c48ee36394ef3b790309c4292a68651930e85ce5d931e725dfc"
"""keccak of the creation code of `contracts/build/Collector.json`, without its arguments."""
OPERATOR_ACCOUNT = 0
SENDER_INDEX = 0  # of the gas accounts
DEPLOY_GAS = 600_000  # its creation uses some 440,000
COLLECT_SELECTOR = bytes.fromhex("35927669")  # collect(address,bytes32[])
LEGS_MAX = 100
WORD = 32
_HEAD_WORDS = 3  # token, where the legs begin, how many
_LEGS_AT = (64).to_bytes(WORD, "big")
_AUTHORISATION_FIELDS = 3  # chain id, address, nonce
_NONCE_LIMIT = 2**63  # as of a tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """A decoded call: the token by our name, (deposit path, minor units) of each leg in order, and
    (deposit path, its nonce) of each account that delegates by this tx."""

    asset: str
    legs: tuple[tuple[OwnPath, int], ...]
    authorised: tuple[tuple[OwnPath, int], ...]


def creation(keyring: Keyring, network: NetworkSettings) -> bytes:
    """The creation code of the collector of these keys."""
    account = account_path(network, OPERATOR_ACCOUNT)
    hot = keyring.evm_address(parse_path(f"{account}/0/0", network))
    sender = keyring.evm_address(parse_path(f"{account}/1/{SENDER_INDEX}", network))
    return _code() + hot.rjust(WORD, b"\x00") + sender.rjust(WORD, b"\x00")


def address_of(keyring: Keyring, network: NetworkSettings) -> bytes:
    """Where it stands (EIP-1014)."""
    code_hash = keccak(creation(keyring, network))
    return bytes(keccak(b"\xff" + FACTORY + SALT + code_hash)[-20:])


def check_settings(settings: Settings, keyring: Keyring) -> None:
    """Raises ConfigurationError for a pinned collector that is not that of these keys."""
    for network in settings.networks.values():
        if network.collector is not None:
            expected = address_of(keyring, network)
            if network.collector != expected:
                raise ConfigurationError(
                    f"networks.{network.name}.collector: that of these keys is 0x{expected.hex()}"
                )


def decode_collect(
    data: bytes,
    value: int,
    authorisations: Sequence[object],
    paths: Mapping[int, str],
    *,
    keyring: Keyring,
    network: NetworkSettings,
) -> Collect:
    """The one call of the collector; raises Refused.

    `paths`: leg index to the deposit address it takes from; behind the legs, one for each
    authorisation in order, of the account that gives it.
    """
    token, words = _call(data, value, network)
    count, given = len(words), len(authorisations)
    if set(paths) != set(range(count + given)):
        raise Refused(RefusalCode.FOREIGN_INPUT, "a path for each leg and each authorisation")
    own = [_deposit(paths[index], network) for index in range(count + given)]
    for word, path in zip(words, own[:count], strict=True):
        if word[:20] != keyring.evm_address(path):
            raise Refused(RefusalCode.FOREIGN_INPUT, f"a leg does not take from {path.text}")
    legs = tuple(
        (path, int.from_bytes(word[20:], "big"))
        for word, path in zip(words, own[:count], strict=True)
    )
    if any(amount == 0 for _, amount in legs) or len(set(own[:count])) != count:
        raise _bad("a leg of nothing, or an address twice")
    if len(set(own[count:])) != given or not set(own[count:]) <= set(own[:count]):
        raise _bad("an authorisation twice, or of an account that gives nothing")
    nonces = [_authorised(item, network) for item in authorisations]
    authorised = tuple(zip(own[count:], nonces, strict=True))
    return Collect(asset=token.asset, legs=legs, authorised=authorised)


def _call(
    data: bytes, value: int, network: NetworkSettings
) -> tuple["AssetSettings", Sequence[bytes]]:
    body = data[len(COLLECT_SELECTOR) :]
    words = [body[at : at + WORD] for at in range(0, len(body), WORD)]
    if not data.startswith(COLLECT_SELECTOR) or value != 0 or len(body) % WORD:
        raise _bad("a call of the collector that collects nothing")
    if len(words) < _HEAD_WORDS or words[1] != _LEGS_AT or any(words[0][:12]):
        raise _bad("a call that is not laid out canonically")
    count = int.from_bytes(words[2], "big")
    if not 1 <= count <= LEGS_MAX or count != len(words) - _HEAD_WORDS:
        raise _bad("1 to 100 legs are collected and nothing behind them")
    contract = words[0][12:]
    token = next((item for item in network.assets.values() if item.contract == contract), None)
    if token is None:
        raise _bad("a token that is not listed")
    return token, words[_HEAD_WORDS:]


def _deposit(text: str, network: NetworkSettings) -> OwnPath:
    path = parse_path(text, network)
    if path.role is not Role.DEPOSIT:
        raise Refused(RefusalCode.BAD_PATH, "only deposit addresses are collected from")
    return path


def _authorised(item: object, network: NetworkSettings) -> int:
    """The nonce of an authorisation to the collector on this very chain; raises Refused."""
    if not isinstance(item, list) or len(item) != _AUTHORISATION_FIELDS:
        raise Refused(RefusalCode.UNDECODABLE, "an authorisation has three fields")
    chain, target, nonce = item
    if not all(isinstance(part, bytes) for part in item) or nonce[:1] == b"\x00":
        raise Refused(RefusalCode.UNDECODABLE, "an authorisation that is not canonical")
    if chain != network.chain_id.to_bytes((network.chain_id.bit_length() + 7) // 8, "big"):
        raise Refused(RefusalCode.WRONG_NETWORK, "an authorisation for another chain, or for all")
    if network.collector is None or target != network.collector:
        raise _bad("an authorisation for another contract than the collector")
    number = int.from_bytes(nonce, "big")
    if number >= _NONCE_LIMIT:
        raise Refused(RefusalCode.UNDECODABLE, "an authorisation's nonce is out of range")
    return number


@cache
def _code() -> bytes:
    """Raises ConfigurationError for a file that is not the pinned one."""
    text = Path(__file__).with_name("collector.hex").read_text("ascii")
    code = bytes.fromhex("".join(text.split()))
    if "0x" + keccak(code).hex() != CREATION_HASH:
        raise ConfigurationError("signer/collector.hex is not the pinned creation code")
    return code


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.FORBIDDEN_SHAPE, reason)
