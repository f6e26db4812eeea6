"""EVM addresses: strict parser with EIP-55 checksums, derivation from an xpub.

Pure. The match key is the 20-byte address as lower-case 0x hex. The text is never trimmed (A19).
"""

import re

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from watchers.chain import DerivedAddress, Destination
from watchers.chains.evm.params import EvmParams
from watchers.chains.hd import child_public_key
from watchers.errors import InvalidAddress

SHAPE = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
PRECOMPILE_MAX = 0x11  # the highest precompile of the Prague hard fork (EIP-2537)


class EvmAddressCodec:
    """Text <-> address of one network."""

    def __init__(self, params: EvmParams) -> None:
        self._params = params

    def parse(self, text: str) -> Destination:
        """The EIP-55 form and the key, or `InvalidAddress` (A14, A18, A19)."""
        if not SHAPE.fullmatch(text):
            raise InvalidAddress(
                "not an EVM address", remedy="send 0x and 40 hex digits, nothing else"
            )
        digits = text[2:]
        canonical = to_checksum_address(text.lower())
        is_plain = digits in (digits.lower(), digits.upper())
        if not is_plain and text != canonical:
            raise InvalidAddress("wrong EIP-55 checksum", remedy="copy the address again")
        key = text.lower()
        if int(key, 16) <= PRECOMPILE_MAX:
            raise InvalidAddress(
                "the zero address or a precompile: nobody can spend from it",
                remedy="send the address of a wallet",
            )
        if key in self._params.tokens:
            raise InvalidAddress(
                "the contract of a token: coins sent there are lost",
                remedy="send the address of a wallet",
            )
        if key == self._params.batch_contract:
            raise InvalidAddress(
                "a contract of ours: it belongs to nobody", remedy="send the address of a wallet"
            )
        return Destination(address=canonical, key=key)

    def derive(self, *, xpub: str, account: int, chain: int, index: int) -> DerivedAddress:
        """The account at `m/44h/<coin>h/<account>h/chain/index` (BIP 44) below the xpub."""
        public = child_public_key(
            xpub,
            account=account,
            chain=chain,
            index=index,
            versions=self._params.xpub_versions,
            is_compressed=False,
        )
        key = "0x" + keccak(public[1:])[-20:].hex()
        return DerivedAddress(
            address=to_checksum_address(key),
            key=key,
            path=f"m/44h/{self._params.coin_type}h/{account}h/{chain}/{index}",
            scheme="eoa",
        )

    def uri(self, address: str) -> str:
        """The plain address: wallets mis-parse EIP-681 (CONTRACT 3)."""
        return address
