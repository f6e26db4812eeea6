"""Addresses of Bitcoin-family networks: strict parser, derivation from an xpub, BIP-21 links.

Pure. The text is never trimmed or repaired (A19); the network is checked by human-readable part or
base58 version, because embit's own parser accepts any network (LIBRARIES 0.8).
"""

from embit import base58, bech32, hashes

from watchers.chain import DerivedAddress, Destination
from watchers.chains.bitcoin import segwit
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.hd import child_public_key
from watchers.errors import InvalidAddress

BASE58_ALPHABET = frozenset("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
KNOWN_HRPS = ("bcrt", "bc", "tb", "rltc", "ltc", "tltc")
MWEB_HRPS = ("ltcmweb1", "tmweb1", "rmweb1")
BITCOIN_P2SH_VERSIONS = frozenset({0x05, 0xC4})  # "3..." and, on test networks, "2..."


class BitcoinAddressCodec:
    """Text <-> scriptPubKey of one network."""

    def __init__(self, params: BitcoinParams) -> None:
        self._params = params

    def parse(self, text: str) -> Destination:
        """The canonical address and scriptPubKey hex, or `InvalidAddress` (A15-A17, A19)."""
        _refuse_strange_text(text)
        lowered = text.lower()
        if lowered.startswith(MWEB_HRPS):
            raise InvalidAddress(
                "MWEB addresses are not supported", remedy="send an ltc1, M or L address"
            )
        if "1" in text and any(lowered.startswith(hrp + "1") for hrp in KNOWN_HRPS):
            return self._parse_segwit(text)
        return self._parse_base58(text)

    def derive(self, *, xpub: str, account: int, chain: int, index: int) -> DerivedAddress:
        """P2WPKH at `m/84h/<coin>h/<account>h/chain/index` (BIP 84) from the account's xpub.

        Raises `InvalidAddress` when the key is not a public account key of this network.
        """
        public = child_public_key(
            xpub,
            account=account,
            chain=chain,
            index=index,
            versions=self._params.xpub_versions,
            is_compressed=True,
        )
        program = bytes(hashes.hash160(public))
        return DerivedAddress(
            address=str(bech32.encode(self._params.hrp, 0, list(program))),
            key="0014" + program.hex(),
            path=f"m/84h/{self._params.coin_type}h/{account}h/{chain}/{index}",
            scheme="p2wpkh",
        )

    def uri(self, address: str) -> str:
        """BIP-21 without an amount: the player chooses it."""
        return f"{self._params.uri_scheme}:{address}"

    def _parse_segwit(self, text: str) -> Destination:
        """BIP 173 and BIP 350; only v0 and v1 can be spent today, others are refused (A17)."""
        if text != text.lower() and text != text.upper():
            raise InvalidAddress("mixed case", remedy="copy the address again")
        lowered = text.lower()
        hrp = lowered[: lowered.rfind("1")]
        if hrp != self._params.hrp:
            raise InvalidAddress(
                f"address of another network ({hrp}1...)",
                remedy=f"send an address that starts with {self._params.hrp}1",
            )
        found = segwit.decode(hrp, lowered)
        if found is None:
            raise InvalidAddress("wrong checksum or length", remedy="copy the address again")
        version, program = found
        if version > 1 or (version == 1 and len(program) != 32):
            raise InvalidAddress(
                f"witness version {version} is not in use", remedy="use a v0 or v1 address"
            )
        opcode = 0 if version == 0 else 0x50 + version
        key = bytes([opcode, len(program), *program]).hex()
        return Destination(address=lowered, key=key)

    def _parse_base58(self, text: str) -> Destination:
        if not set(text) <= BASE58_ALPHABET:
            raise InvalidAddress("not an address of this network", remedy="copy it again")
        try:
            payload = base58.decode_check(text)
        except (ValueError, RuntimeError) as error:
            raise InvalidAddress("wrong checksum", remedy="copy the address again") from error
        if len(payload) != 21:
            raise InvalidAddress("wrong length", remedy="copy the address again")
        version, digest = payload[0], payload[1:]
        if version in self._params.p2pkh_versions:
            return Destination(address=text, key="76a914" + digest.hex() + "88ac")
        if version in self._params.p2sh_versions:
            return Destination(address=text, key="a914" + digest.hex() + "87")
        if version in BITCOIN_P2SH_VERSIONS:
            raise InvalidAddress(
                "a Bitcoin script address, once also used on Litecoin",
                remedy=f"send the {self._params.hrp}1... form, or M... on Litecoin",
            )
        raise InvalidAddress(
            "address of another network", remedy=f"send an address of {self._params.network}"
        )


def _refuse_strange_text(text: str) -> None:
    """ASCII letters and digits only: no space, NUL, homoglyph or direction mark (A19)."""
    if not text:
        raise InvalidAddress("empty", remedy="send an address")
    if not text.isascii() or not text.isalnum():
        raise InvalidAddress(
            "a character that no address has", remedy="copy the address without spaces"
        )
    if len(text) > segwit.TEXT_LENGTH_MAX and not text.lower().startswith(MWEB_HRPS):
        raise InvalidAddress("too long", remedy="copy the address again")
