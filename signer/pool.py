"""The second, independent derivation of the address pool: hdwallet against the watcher's embit.

It answers only whether each row agrees; it signs nothing and keeps nothing.
"""

from collections.abc import Sequence
from typing import Any

from hdwallet.addresses.ethereum import EthereumAddress
from hdwallet.addresses.p2wpkh import P2WPKHAddress
from hdwallet.derivations import CustomDerivation
from hdwallet.eccs import SLIP10Secp256k1ECC
from hdwallet.hds import BIP32HD

from signer.errors import Refused
from signer.keyring import Keyring
from signer.paths import OwnPath, parse_path
from signer.protocol import PoolRow
from signer.settings import Family, NetworkSettings


class PoolVerifier:
    """Re-derives rows from the key, about 500 a second. For one thread at a time."""

    def __init__(self, keyring: Keyring) -> None:
        self._hd: Any = BIP32HD(ecc=SLIP10Secp256k1ECC)
        self._hd.from_seed(keyring.seed_for_second_derivation().hex())

    def __repr__(self) -> str:
        return "PoolVerifier()"

    def agree(self, network: NetworkSettings, rows: Sequence[PoolRow]) -> tuple[bool, ...]:
        """One truth per row: the address is exactly the one of the path on this network."""
        return tuple(self._agrees(network, row) for row in rows)

    def _agrees(self, network: NetworkSettings, row: PoolRow) -> bool:
        try:
            path = parse_path(row.path, network)
        except Refused:
            return False
        return self._address(network, path) == row.address

    def _address(self, network: NetworkSettings, path: OwnPath) -> str:
        self._hd.clean_derivation()
        self._hd.from_derivation(CustomDerivation(path=path.text.replace("h", "'")))
        key = self._hd.public_key()
        if network.family is Family.BITCOIN:
            return str(P2WPKHAddress.encode(key, hrp=network.hrp, witness_version=0))
        return str(EthereumAddress.encode(key))
