"""Which wallet a move of own value leaves and reaches, by purpose; and that warm coins stay.

Owns the ways of CONTRACT 8 between hot, warm and cold. It decides nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from signer.errors import RefusalCode, Refused
from signer.paths import Role
from signer.protocol import Purpose
from signer.protocol_purposes import WARM_MOVES
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import AssetSettings

HOT_LANES_MAX = 64  # nobody looks for what goes to a lane beyond those that are in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way. `sources`: of coins; `lane`: of the account that sends; `target` None: an address
    that people pinned."""

    direction: str
    sources: tuple[Role, ...]
    lane: Role
    change: Role
    target: Role | None
    scope: str

    @property
    def is_always_agreed(self) -> bool:
        """Two people sign each, whatever its size."""
        return self.target is not None

    def caps(self, limits: AssetSettings) -> tuple[int, int]:
        """(of one move, of a day) in minor units."""
        if self.target is None:
            return limits.cold_tx_max_minor, limits.cold_day_max_minor
        return limits.warm_tx_max_minor, limits.warm_day_max_minor


_HOT = (Role.HOT, Role.CHANGE, Role.DEPOSIT)  # deposits of UTXO networks are hot coins

WAYS: Mapping[Purpose, Way] = MappingProxyType(
    {
        Purpose.HOT_TO_COLD: Way(
            direction="hot_to_cold",
            sources=_HOT,
            lane=Role.HOT,
            change=Role.CHANGE,
            target=None,
            scope="cold",
        ),
        Purpose.HOT_TO_WARM: Way(
            direction="hot_to_warm",
            sources=_HOT,
            lane=Role.HOT,
            change=Role.CHANGE,
            target=Role.WARM,
            scope="to_warm",
        ),
        Purpose.WARM_TO_HOT: Way(
            direction="warm_to_hot",
            sources=(Role.WARM,),
            lane=Role.WARM,
            change=Role.WARM,
            target=Role.HOT,
            scope="from_warm",
        ),
    }
)


def check_not_warm(purpose: Purpose, tx: UtxoTx | EvmTx) -> None:
    """What two people alone may move, no other purpose touches. Raises Refused (`bad_path`)."""
    if isinstance(tx, UtxoTx):
        is_warm = any(item.path.role is Role.WARM for item in tx.inputs)
    else:
        is_warm = tx.sender.role is Role.WARM
    if is_warm and purpose not in WARM_MOVES:
        raise Refused(RefusalCode.BAD_PATH, "the warm wallet pays by two people's words only")
