"""Output descriptors of cold wallets (BIP 380, 382, 383, 389): where keys are that nobody here has.

Pure. `wpkh(KEY)` or `wsh(sortedmulti(k, KEY, ...))`, each KEY an extended public key with its
origin and `/<0;1>/*`, the whole with its checksum. Anything else is refused: what a descriptor
says by a slip of the pen is lost for ever.
"""

from collections.abc import Sequence

from embit import bech32, hashes
from embit.base import EmbitError
from embit.descriptor import Descriptor
from embit.descriptor.checksum import checksum

from watchers.chain import DerivedAddress
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.errors import InvalidAddress

RECEIVE, CHANGE = 0, 1  # BIP 389: `<0;1>`
BRANCHES = "/<0;1>/*"
CHECKSUM_CHARACTERS = 8
REMEDY = "export the descriptor again from the cold wallet, with its checksum"


class ColdDescriptor:
    """One parsed descriptor. `parsed` is for the builder of PSBTs."""

    def __init__(self, text: str, params: BitcoinParams) -> None:
        """Raises `InvalidAddress` with reason and remedy."""
        body, separator, found = text.partition("#")
        if not separator or len(found) != CHECKSUM_CHARACTERS:
            raise _refused("a descriptor without its checksum")
        try:
            if checksum(body) != found:
                raise _refused("the descriptor's checksum is wrong")
            self.parsed = Descriptor.from_string(body)
        except (EmbitError, ValueError, RuntimeError, IndexError, KeyError) as error:
            raise _refused("not a descriptor") from error
        self.text = text
        self._params = params
        self._check(params)

    def derive(self, *, branch: int, index: int) -> DerivedAddress:
        """The address at `<0;1>/index`; `branch` is RECEIVE or CHANGE."""
        one = self.parsed.derive(index, branch_index=branch)
        script = bytes(one.script_pubkey().data)
        program = list(script[2:])
        return DerivedAddress(
            address=str(bech32.encode(self._params.hrp, 0, program)),
            key=script.hex(),
            path=f"cold/{branch}/{index}",
            scheme="p2wsh" if self.parsed.wsh else "p2wpkh",
        )

    def derive_all(self, count: int) -> Sequence[tuple[int, int, DerivedAddress]]:
        """The first `count` of each branch, as (branch, index, address). CPU work."""
        return [
            (branch, index, self.derive(branch=branch, index=index))
            for branch in (RECEIVE, CHANGE)
            for index in range(count)
        ]

    def _check(self, params: BitcoinParams) -> None:
        parsed = self.parsed
        if parsed.sh or parsed.taproot or not (parsed.wpkh or parsed.wsh):
            raise _refused("not wpkh(...) or wsh(sortedmulti(...))")
        if parsed.wsh and not (parsed.is_basic_multisig and parsed.is_sorted):
            raise _refused("wsh of something else than sortedmulti")
        for key in parsed.keys:
            if not key.is_extended or key.is_private:
                raise _refused("a key that is not an extended public one")
            if key.key.version not in params.xpub_versions:
                raise _refused("a key of another network")
            if key.origin is None:
                raise _refused("a key without its origin")
            if str(key.allowed_derivation) != BRANCHES:
                raise _refused(f"a key that does not end in {BRANCHES}")
        if len({hashes.hash160(key.key.sec()) for key in parsed.keys}) != len(parsed.keys):
            raise _refused("one key twice")


def _refused(reason: str) -> InvalidAddress:
    return InvalidAddress(reason, remedy=REMEDY)
