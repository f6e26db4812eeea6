"""`[cold.eth] safe`: the Safe that is the cold wallet of an account chain."""

import pytest
from pydantic import ValidationError

from config.chains import load_chains
from config.errors import ConfigError
from config.settings import ColdSettings, NetworkSettings, Settings

SAFE = "0x5AaeB6053f3e94c9B9a09F33669435E7eF1bEAeD"


def test_a_safe_is_the_address_that_hot_value_goes_to() -> None:
    cold = ColdSettings.model_validate({"safe": SAFE})
    assert (cold.address, cold.safe) == (SAFE, SAFE)
    assert ColdSettings.model_validate({"safe": SAFE, "address": SAFE}) == cold
    assert ColdSettings.model_validate({"address": SAFE}).safe is None


@pytest.mark.parametrize(
    "raw",
    [
        {"safe": SAFE, "address": "0x" + "11" * 20},
        {"safe": SAFE, "descriptor": "wpkh(...)"},
        {"safe": SAFE[:-1]},
        {"safe": 7},
        {},
    ],
)
def test_what_contradicts_itself_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ColdSettings.model_validate(raw)


def settings(network: str, chain: str) -> Settings:
    """One network with a Safe."""
    cold = {network: ColdSettings.model_validate({"safe": SAFE})}
    return Settings(networks={network: NetworkSettings(chain=chain)}, cold=cold)


def test_the_network_knows_its_safe() -> None:
    assert load_chains(settings("eth", "dev"))["eth"].safe == SAFE.lower()
    plain = Settings(
        networks={"eth": NetworkSettings(chain="dev")},
        cold={"eth": ColdSettings(address=SAFE)},
    )
    assert load_chains(plain)["eth"].safe is None


def test_a_network_of_coins_has_none() -> None:
    with pytest.raises(ConfigError, match=r"cold\.btc\.safe"):
        load_chains(settings("btc", "regtest"))
