"""D36, D37, D73: what is not on the list has a word that says what it is."""

import pytest

from config.assets import load_assets
from config.chains import load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from tests.support.clock import ManualClock, SequentialIds
from watchers.network import Network
from watchers.unsupported import Substatus, classify

HERE, THERE, NOWHERE = ("0x" + pair * 20 for pair in ("aa", "bb", "cc"))


def _network(name: str) -> Network:
    settings = Settings(
        networks={
            "eth": NetworkSettings(chain="dev"),
            "side": NetworkSettings(family="evm", evm_chain_id=99, is_live=False, chain="dev"),
        },
        assets={
            "eth:USDT": AssetSettings(contract=HERE),
            "side:ETH": AssetSettings(decimals=18),
            "side:USDC": AssetSettings(contract=THERE.upper().replace("0X", "0x"), decimals=6),
        },
    )
    chains = load_chains(settings)
    clock = ManualClock()
    return Network(
        spec=chains[name],
        assets=load_assets(settings, chains),
        ids=SequentialIds(clock, seed=1),
        reversed_per_step_max=20,
    )


@pytest.mark.parametrize(
    ("network", "asset", "word"),
    [
        ("eth", "eth:ETH", None),
        ("eth", "eth:USDT", None),
        ("eth", f"eth:{NOWHERE}", Substatus.UNLISTED_TOKEN),
        ("eth", f"eth:{THERE}", Substatus.WRONG_NETWORK),
        ("side", f"side:{HERE}", Substatus.WRONG_NETWORK),
        ("side", "side:USDC", None),
        ("side", "eth:USDT", Substatus.UNLISTED_TOKEN),
    ],
)
def test_d36_d37_d73_what_no_list_matches_is_named(
    network: str, asset: str, word: Substatus | None
) -> None:
    assert classify(_network(network), asset) == word
