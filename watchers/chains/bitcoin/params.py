"""Facts of one Bitcoin-family network that parsing, deriving and building need.

Values come from the chain registry; this module owns only their shape.
"""

from dataclasses import dataclass
from enum import StrEnum


class PowAlgorithm(StrEnum):
    """Which hash of the header must meet the target; the block id is SHA-256d on all of them."""

    SHA256D = "sha256d"
    """Bitcoin."""
    SCRYPT = "scrypt"
    """Litecoin: scrypt with n=1024, r=1, p=1, the header as password and salt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitcoinParams:
    """One network. Versions are the base58check prefixes of BIP 13 and BIP 32.

    `coin_type` is SLIP-44 (1 on every test network); `asset` is the id of the native coin.
    `pow_limit` is the easiest legal target.
    """

    network: str
    asset: str
    genesis_hash: str
    hrp: str
    p2pkh_versions: frozenset[int]
    p2sh_versions: frozenset[int]
    xpub_versions: frozenset[bytes]
    coin_type: int
    uri_scheme: str
    pow_algorithm: PowAlgorithm
    pow_limit: int
