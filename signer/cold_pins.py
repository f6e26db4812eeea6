"""Pins of cold addresses: two people make one, one person takes it back (CONTRACT 8).

A pin counts a day after it was made, by the signer's own clock: who takes two staff keys today
still has to wait, and people can see it. It must not sign transactions.
"""

from collections.abc import Mapping
from typing import Any

from signer import cold_pins_store as pins
from signer.errors import RefusalCode, Refused
from signer.schemes.address import place_of
from signer.settings import Settings
from signer.store import Store


def check_pinned(
    store: Store, settings: Settings, *, network: str, place: bytes, now_seconds: int
) -> None:
    """Raises Refused (`not_pinned`) unless people pinned this place long enough ago."""
    at = pins.pinned_at(store, network=network, place=place)
    if at is None:
        raise Refused(RefusalCode.NOT_PINNED, "it does not go to a pinned cold address")
    age, least = now_seconds - at, settings.pin_seconds
    if age < least:
        reason = f"the cold address was pinned {age} s ago, which must be {least}"
        raise Refused(RefusalCode.NOT_PINNED, reason)


def apply(
    action: str, raw: Mapping[str, Any], store: Store, settings: Settings, *, now_seconds: int
) -> None:
    """`pin` or `unpin`, inside the open unit of work; raises Refused."""
    if set(raw) != {"network", "address"} or not isinstance(raw["address"], str):
        raise Refused(RefusalCode.BAD_REQUEST, f"{action} has exactly network and address")
    name = raw["network"]
    network = settings.networks.get(name) if isinstance(name, str) else None
    if network is None:
        raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the signer's settings")
    place = place_of(raw["address"], network)
    is_there = pins.pinned_at(store, network=network.name, place=place) is not None
    if is_there is (action == "pin"):
        raise Refused(RefusalCode.TRUST_CONFLICT, f"nothing to {action}")
    if action == "pin":
        pins.add_pin(
            store,
            network=network.name,
            place=place,
            address=raw["address"],
            at_seconds=now_seconds,
        )
    else:
        pins.drop_pin(store, network=network.name, place=place)
