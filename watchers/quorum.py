"""Agreement between nodes before a block counts. Today: one node set, which answers as one.

The seam that a quorum fills: `Chain.reader` of the composition root. `build_chain` gets all node
URLs and fails over between them; a reader that asks k of n nodes for the hash at a height will
stand in its place, and neither the follower nor the deposits will notice. Until then a
configuration that asks for more than one agreeing node is refused, because it would not be kept.
"""

from config.errors import ConfigError
from config.settings import NetworkSettings

AGREEING_NODES_MAX = 1


def require_reachable(network: str, settings: NetworkSettings) -> None:
    """Refuse a quorum that this version cannot count (no pretending)."""
    if settings.quorum > AGREEING_NODES_MAX:
        raise ConfigError(
            f"networks.{network}.quorum: {settings.quorum} nodes cannot be asked to agree yet",
            hint="set quorum = 1; further nodes serve as fail-over",
        )
