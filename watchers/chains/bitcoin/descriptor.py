"""Output descriptors of cold wallets (BIP 380, 381, 382, 383, 389): public keys only.

Pure. Accepted are `wpkh(KEY)` and `wsh(sortedmulti(K,KEY,...))` with a checksum, where each KEY has
an origin and both branches, `[fingerprint/path]xpub/<0;1>/*`: what Sparrow, Electrum and Core know,
and what a PSBT needs so that a device finds its own keys. Everything else is refused by name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from embit import base58, bech32, bip32
from embit.base import EmbitError
from embit.descriptor import Descriptor
from embit.descriptor.checksum import checksum

from watchers.chain import DerivedAddress
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.errors import InvalidAddress

KEYS_MAX: Final = 15  # keeps a P2WSH spend of all of them standard (Core, policy.h: 3,600 bytes)
BRANCHES: Final = (0, 1)  # receive, change (BIP 44)
INDEX_END: Final = 1 << 31
SERIALISED_BYTES: Final = 78  # BIP 32, Serialization format

_KEY: Final = r"\[([0-9a-fA-F]{8})((?:/[0-9]+[h'H]?)*)\]([A-Za-z0-9]+)/<0;1>/\*"
_SINGLE: Final = re.compile(rf"wpkh\({_KEY}\)")
_MULTI: Final = re.compile(rf"wsh\(sortedmulti\(([1-9][0-9]?)((?:,{_KEY})+)\)\)")
_HARD: Final = ("h", "'", "H")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOrigin:
    """One key of a script: compressed public key, and where its owner finds it (BIP 174)."""

    public_key: bytes
    fingerprint: bytes
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalXpub:
    """One account key of the wallet as a PSBT names it (BIP 174, PSBT_GLOBAL_XPUB)."""

    serialised: bytes
    fingerprint: bytes
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdScript:
    """One address of the wallet. `key`: scriptPubKey hex; `witness_script`: of a P2WSH one only."""

    branch: int
    index: int
    address: str
    key: str
    scheme: str
    """`p2wpkh` or `p2wsh`."""
    witness_script: bytes | None
    origins: tuple[KeyOrigin, ...]

    @property
    def path(self) -> str:
        """Where it is in the wallet, below its account keys."""
        return f"cold/{self.branch}/{self.index}"


class ColdDescriptor:
    """A cold wallet's recipe. `text` is as given, checksum included; `threshold` keys sign.

    Raises InvalidAddress with what is wrong and what to do about it.
    """

    def __init__(self, text: str, params: BitcoinParams) -> None:
        body = _checked_body(text)
        multi = _MULTI.fullmatch(body)
        if _SINGLE.fullmatch(body) is None and multi is None:
            raise InvalidAddress(
                "not wpkh(KEY) or wsh(sortedmulti(K,KEY,...)), each KEY "
                "[fingerprint/path]xpub/<0;1>/*",
                remedy="export the wallet's descriptor with key origins and both branches",
            )
        keys = re.findall(_KEY, body)
        self.text = text
        self.threshold = 1 if multi is None else int(multi.group(1))
        if self.threshold > len(keys) or len(keys) > KEYS_MAX:
            raise InvalidAddress(
                f"{self.threshold} of {len(keys)} keys", remedy=f"use at most {KEYS_MAX} keys"
            )
        self.xpubs = tuple(_xpub(*item, params=params) for item in keys)
        if len({item.serialised for item in self.xpubs}) != len(self.xpubs):
            raise InvalidAddress(
                "one key stands in it twice", remedy="each signer has a key of its own"
            )
        self._hrp = params.hrp
        self._recipe: Any = _recipe(body)
        self.witness_script_bytes = len(self.script(0, 0).witness_script or b"")

    @property
    def keys_count(self) -> int:
        """How many keys it has; `threshold` of them sign."""
        return len(self.xpubs)

    @property
    def is_multisig(self) -> bool:
        """Whether coins are behind a P2WSH script."""
        return self._recipe.miniscript is not None

    def derive(self, *, branch: int, index: int) -> DerivedAddress:
        """The address at `branch` (0 receives, 1 is change) and `index`. Raises InvalidAddress."""
        found = self.script(branch, index)
        return DerivedAddress(
            address=found.address, key=found.key, path=found.path, scheme=found.scheme
        )

    def derive_all(self, count: int) -> Sequence[tuple[int, int, DerivedAddress]]:
        """The first `count` of each branch, as (branch, index, address). CPU work."""
        return [
            (branch, index, self.derive(branch=branch, index=index))
            for branch in BRANCHES
            for index in range(count)
        ]

    def script(self, branch: int, index: int) -> ColdScript:
        """The same with all that its signers need. Raises InvalidAddress."""
        if branch not in BRANCHES or not 0 <= index < INDEX_END:
            raise InvalidAddress("derivation out of range", remedy="use branch 0 or 1")
        derived = self._recipe.derive(index, branch_index=branch)
        script = bytes(derived.script_pubkey().data)
        witness = derived.witness_script()
        return ColdScript(
            branch=branch,
            index=index,
            address=str(bech32.encode(self._hrp, 0, list(script[2:]))),
            key=script.hex(),
            scheme="p2wpkh" if witness is None else "p2wsh",
            witness_script=None if witness is None else bytes(witness.data),
            origins=tuple(
                KeyOrigin(
                    public_key=bytes(item.sec()),
                    fingerprint=xpub.fingerprint,
                    path=(*xpub.path, branch, index),
                )
                for item, xpub in zip(derived.keys, self.xpubs, strict=True)
            ),
        )


def _recipe(body: str) -> Any:
    try:
        return Descriptor.from_string(body)
    except (EmbitError, ValueError, RuntimeError, AssertionError) as error:
        raise InvalidAddress("the descriptor does not parse", remedy="export it again") from error


def _checked_body(text: str) -> str:
    """The part before a right checksum (BIP 380)."""
    body, mark, given = text.partition("#")
    if not mark:
        raise InvalidAddress(
            "a descriptor without a checksum", remedy="export it with its #checksum"
        )
    try:
        right = checksum(body)
    except EmbitError as error:
        raise InvalidAddress("a character no descriptor has", remedy="copy it again") from error
    if given != right:
        raise InvalidAddress("wrong checksum", remedy="copy the whole descriptor again")
    return body


def _xpub(fingerprint: str, path: str, text: str, *, params: BitcoinParams) -> GlobalXpub:
    """The account key, checked against network and origin."""
    try:
        serialised = base58.decode_check(text)
        if len(serialised) != SERIALISED_BYTES:
            raise ValueError("length")
        key = bip32.HDKey.parse(serialised)
    except (EmbitError, ValueError, RuntimeError, IndexError) as error:
        raise InvalidAddress("not an extended public key", remedy="export it again") from error
    if key.is_private:
        raise InvalidAddress(
            "an extended private key: it must never be here", remedy="export the public one"
        )
    if key.version not in params.xpub_versions:
        raise InvalidAddress("extended key of another network", remedy="export this network's key")
    steps = _steps(path)
    if key.depth != len(steps) or (steps and key.child_number != steps[-1]):
        raise InvalidAddress(
            "the origin of a key is not its own path", remedy="export key and origin together"
        )
    return GlobalXpub(
        serialised=bytes(serialised), fingerprint=bytes.fromhex(fingerprint), path=steps
    )


def _steps(path: str) -> tuple[int, ...]:
    """`/84h/0h/0h` as numbers (BIP 32)."""
    found = []
    for item in path.split("/")[1:]:
        is_hard = item.endswith(_HARD)
        number = int(item[:-1] if is_hard else item)
        if number >= INDEX_END:
            raise InvalidAddress("a derivation step out of range", remedy="export it again")
        found.append(number + INDEX_END if is_hard else number)
    return tuple(found)
