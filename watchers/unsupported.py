"""What a transfer is that no listed asset matches: the word that its deposit carries (D36, D73).

Pure. Such a deposit is `unsupported`: it books nothing and is offered for recovery (D10 of
FEATURES), by the network and the contract that its asset id holds.
"""

from enum import StrEnum

from watchers.network import Network


class Substatus(StrEnum):
    """Why a deposit is unsupported; stable words of the API."""

    UNLISTED_TOKEN = "unlisted_token"
    """A token of this network that is not on the list."""
    WRONG_NETWORK = "wrong_network"
    """The contract of an asset that is listed on another network only (D37)."""


def classify(network: Network, asset_id: str) -> Substatus | None:
    """The word for an asset seen on `network`; None when it is listed there."""
    if network.asset(asset_id) is not None:
        return None
    contract = asset_id.partition(":")[2].lower()
    elsewhere = (
        item.contract.lower()
        for item in network.assets.values()
        if item.contract is not None and item.network != network.name
    )
    return Substatus.WRONG_NETWORK if contract in elsewhere else Substatus.UNLISTED_TOKEN
