"""What the API says of a deposit."""

import json
from dataclasses import replace

import pytest

from config.registry import load_registry
from config.settings import load_settings
from gateway.api import wire_objects
from gateway.api.wire_base import WireContext
from tests.support.deposit_rows import PENDING as AT_100
from watchers.deposits import snapshot


@pytest.fixture
def context() -> WireContext:
    """A deployment on test chains."""
    environ = {"CAGE_NETWORKS": json.dumps({"btc": {"chain": "regtest"}})}
    registry = load_registry(load_settings(environ=environ))
    return WireContext(assets=registry.assets, livemode=False)


@pytest.mark.parametrize("is_late", [False, True])
def test_d22_a_payment_to_a_rotated_address_is_flagged_late(
    context: WireContext, is_late: bool
) -> None:
    shown = wire_objects.deposit(snapshot(replace(AT_100, is_late=is_late)), context=context)
    assert shown.late is is_late


def test_d22_an_event_of_an_older_version_is_shown_without_the_flag(context: WireContext) -> None:
    older = {name: value for name, value in snapshot(AT_100).items() if name != "is_late"}
    assert wire_objects.deposit(older, context=context).late is False
