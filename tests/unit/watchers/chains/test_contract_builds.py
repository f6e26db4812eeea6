"""The committed Solidity builds are those of the committed sources."""

import pytest

from tests.support.evm import CONTRACTS, call_data, load_build

NAMES = sorted(path.stem for path in CONTRACTS.glob("build/*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_build_belongs_to_its_source(name: str) -> None:
    build = load_build(name)
    assert build.is_fresh(), "rebuild as contracts/README.md says"
    assert build.bytecode.startswith("0x60")


def test_every_source_has_a_build() -> None:
    sources = {load_build(name).source.name for name in NAMES}
    assert sources == {path.name for path in CONTRACTS.glob("*.sol")}


def test_the_token_of_the_demo_returns_nothing_and_has_six_decimals() -> None:
    functions = {item["name"]: item for item in load_build("UsdtLike").abi if "name" in item}
    assert functions["transfer"]["outputs"] == []
    assert functions["decimals"]["outputs"][0]["type"] == "uint8"


def test_call_data_is_that_of_the_standard() -> None:
    data = call_data("transfer(address,uint256)", "0x" + "22" * 20, 5)
    assert data == "0xa9059cbb" + "00" * 12 + "22" * 20 + f"{5:064x}"
