"""The committed Solidity builds are those of the committed sources."""

import pytest

from tests.support.evm import CONTRACTS, call_data, load_build
from watchers.chains.evm.batch_data import created_key, creation_data

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


def test_the_creation_code_of_the_watcher_is_the_committed_build() -> None:
    """One source: what the gateway deploys is what `contracts/` was compiled to, for its owner."""
    owner = "0x" + "0a" * 20
    built = bytes.fromhex(load_build("BatchPayer").bytecode.removeprefix("0x"))
    assert creation_data(owner) == built + bytes(12) + bytes.fromhex(owner[2:])


def test_the_key_of_a_creation_is_that_of_a_public_example() -> None:
    """The addresses that a well-known account creates by its first nonces."""
    creator = "0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"
    assert created_key(creator, 0) == "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_key(creator, 1) == "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"
