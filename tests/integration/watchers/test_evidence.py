"""D13, N11: what real nodes mined is proven by the API and checked offline; what is altered fails.

The programs are bitcoind, litecoind and anvil; the follower, the API and the verifier are those of
production, each under its own database role.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.deposit_proof import Status, is_verified, verify
from gateway.cli.main import main
from gateway.client import Reply
from tests.conformance.conftest import REAL_BACKENDS, open_world
from tests.support import evm
from tests.support.api import ApiHouse, api_house, problem
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pools import agreed_over
from tests.support.simchain import TOKEN_CONTRACT
from tests.support.watching import Watch, watching
from tests.support.worlds import AnvilWorld, UtxoNodeWorld, World
from watchers.chain import Pay
from watchers.deposits import DepositRow

pytestmark = [pytest.mark.postgres, pytest.mark.node]

AMOUNTS = {"btc:BTC": 50_000_000, "ltc:LTC": 500_000_000, "eth:ETH": 5 * 10**17}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A chain, its watcher and the API over one database."""

    world: World
    watch: Watch
    house: ApiHouse

    async def pay(self, *names: str, asset: str | None = None, amount: int | None = None) -> None:
        """Pay players, in one tx where the chain can."""
        rows = [await self.watch.address(name) for name in names]
        asset = asset or self.world.native
        minor = amount or AMOUNTS[asset]
        await self.world.pay(
            [Pay(asset=asset, address=row.address, amount_minor=minor) for row in rows]
        )

    async def mine(self, count: int) -> None:
        """Mine and follow."""
        await self.world.mine(count)
        await self.watch.follow()

    async def proof(self, deposit: DepositRow, *, key: str = "acme-key") -> Reply:
        """The API's answer about one deposit."""
        public_id = self.house.server._services.wire.id("deposit", deposit.id)
        return await self.house.call("GET", f"/v1/deposits/{public_id}/proof", key=key)


@pytest.fixture
def desk_of(
    request: pytest.FixtureRequest,
    test_database: TestDatabase,
    tmp_path: Path,
    clock: ManualClock,
    ids: SequentialIds,
) -> Callable[[str], Any]:
    """A desk over one backend."""

    @asynccontextmanager
    async def opened(backend: str) -> AsyncIterator[Desk]:
        async with open_world(backend, request) as world:
            token = world._contract if isinstance(world, AnvilWorld) else TOKEN_CONTRACT
            async with (
                watching(world.chain, test_database, clock=clock, ids=ids) as watch,
                api_house(
                    test_database, tmp_path, clock=clock, ids=ids, is_furnished=True, token=token
                ) as house,
            ):
                for name, index in (("acme", 1), ("zest", 2)):
                    await house.rows(
                        "INSERT INTO gateway.brands (id, account_index, created_at) "
                        "VALUES (:id, :index, :at)",
                        id=name,
                        index=index,
                        at=clock.now(),
                    )
                    await house.add_key(f"{name}-key", brand=name)
                watch.start_height = None
                watch.follower = watch.new_follower("first")
                await watch.follow()
                yield Desk(world=world, watch=watch, house=house)

    return opened


def failed(content: bytes) -> list[str]:
    """The names of the checks that fail."""
    return [item.name for item in verify(content) if item.status is Status.FAILED]


def resealed(bundle: dict[str, Any]) -> bytes:
    """As a forger sends it: with a digest that fits."""
    rest = {name: value for name, value in bundle.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(rest | {"digest": digest}).encode()


@pytest.mark.parametrize("backend", REAL_BACKENDS)
async def test_d13_n11_a_deposit_of_a_real_node_is_proven_offline(
    backend: str,
    desk_of: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with desk_of(backend) as desk:
        native = desk.world.native
        tier = desk.watch.registry.assets[native].tier(AMOUNTS[native])
        await desk.pay("anna", "ben")
        await desk.pay("carl")
        await desk.mine(1)
        await desk.mine(tier.full_depth - 1)
        deposits = await desk.watch.deposits()
        assert [item.state for item in deposits] == ["final"] * 3
        for deposit in deposits:
            reply = await desk.proof(deposit)
            assert reply.status == 200, reply.body
            file = tmp_path / "proof.json"
            file.write_bytes(reply.body)
            capsys.readouterr()  # what the processes logged
            assert main(["deposits", "verify", str(file), "--json"]) == 0
            verdict = json.loads(capsys.readouterr().out)
            assert verdict["verified"] is True
            told = {item["name"] for item in verdict["checks"] if item["status"] == "told"}
            is_utxo = desk.world.chain.family == "bitcoin"
            assert told == ({"agreement"} if is_utxo else {"agreement", "work", "finality"})
            bundle = reply.json()
            assert bundle["finality"]["confirmations"] == tier.full_depth
            assert bundle["deposit"]["txid"] == deposit.txid
        rows = await desk.house.rows("SELECT count(*) AS n FROM chain.evidence")
        assert rows[0]["n"] == len({item.txid for item in deposits})


async def test_d13_n05_the_bundle_tells_how_many_nodes_gave_the_block(
    desk_of: Callable[[str], Any],
) -> None:
    """One reader records nothing; two that must agree are two of two, as the operator's word."""
    async with desk_of("bitcoind") as desk:
        chain = desk.world.chain
        await desk.pay("anna")
        await desk.mine(1)
        alone = (await desk.proof(await desk.watch.deposit())).json()
        assert alone["agreement"] is None
        both = agreed_over(chain, [chain.reader, chain.reader])
        desk.watch.follower = desk.watch.new_follower("first", chain=both)
        await desk.pay("ben", amount=2 * AMOUNTS["btc:BTC"])
        await desk.mine(1)
        content = (await desk.proof((await desk.watch.deposits())[1])).body
        await both.close()
    assert json.loads(content)["agreement"] == {"agreed": 2, "nodes": 2}
    assert is_verified(verify(content))
    (told,) = [item for item in verify(content) if item.name == "agreement"]
    assert (told.status, told.detail) == (
        Status.TOLD,
        "2 of 2 nodes of the operator agreed",
    )


def _flip(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _change(path: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    """An edit of one member by its path."""

    def edit(bundle: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        part: Any = bundle
        for name in parents:
            part = part[int(name) if name.isdigit() else name]
        place = int(last) if last.isdigit() else last
        part[place] = value(part[place])

    return edit


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return _change(path, lambda _: value)


def _drop_last_header(bundle: dict[str, Any]) -> None:
    bundle["headers"].pop()


def _move_address(bundle: dict[str, Any]) -> None:
    """Another address for the same key, in both places."""
    for part in ("deposit", "claim"):
        bundle[part]["address"] = _flip(bundle[part]["address"])


def _raise_amount(bundle: dict[str, Any]) -> None:
    deposit = bundle["deposit"]
    digits = str(int(deposit["amount_minor"]) * 10)
    deposit["amount_minor"] = digits
    whole = digits[: -deposit["decimals"]] or "0"
    part = digits.rjust(deposit["decimals"] + 1, "0")[-deposit["decimals"] :].rstrip("0")
    deposit["amount"] = f"{whole}.{part}" if part else whole


FORGERIES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("tx", _change("deposit.txid", _flip)),
    ("tx", _change("inclusion.raw_tx", lambda t: t[:20] + _flip(t[20:40]) + t[40:])),
    ("inclusion", _change("inclusion.branch.0", _flip)),
    ("inclusion", _change("inclusion.index", lambda n: n + 1)),
    ("block", _change("block.hash", _flip)),
    ("block", _change("block.height", lambda n: n + 1)),
    ("block", _change("headers.0", _flip)),
    ("headers", _change("headers.1", _flip)),
    ("finality", _drop_last_header),
    ("finality", _set("finality.is_reached", False)),
    ("transfer", _raise_amount),
    ("transfer", _set("deposit.position", "out:9")),
    ("address", _move_address),
    ("network", _set("network.caip2", "eip155:1")),
    ("format", _set("format", "cage-deposit-proof/2")),
    ("format", _set("deposit.amount_minor", "-5")),
    ("format", _set("headers", "00")),
    ("agreement", _set("agreement", {"agreed": 4, "nodes": 3})),
]


@pytest.mark.parametrize("backend", REAL_BACKENDS)
async def test_d13_n11_whatever_is_altered_fails_and_is_named(
    backend: str, desk_of: Callable[[str], Any]
) -> None:
    """A byte altered fails at the digest; what a forger seals anew fails where it is false."""
    async with desk_of(backend) as desk:
        await desk.pay("anna", "ben")
        await desk.pay("carl")
        tier = desk.watch.registry.assets[desk.world.native].tier(AMOUNTS[desk.world.native])
        await desk.mine(tier.full_depth)
        content = (await desk.proof((await desk.watch.deposits())[0])).body
    assert is_verified(verify(content))
    for at in range(0, len(content), max(1, len(content) // 400)):
        altered = bytearray(content)
        altered[at] ^= 1
        assert failed(bytes(altered)), at
    for name, forge in FORGERIES:
        bundle = json.loads(content)
        forge(bundle)
        assert name in failed(resealed(bundle)), (name, forge)
    own = "receipt" if "receipt_branch" in content.decode() and backend == "anvil" else "coinbase"
    for member in (own, f"{own}_branch.0"):
        bundle = json.loads(content)
        _change(f"inclusion.{member}", _flip)(bundle)
        assert "inclusion" in failed(resealed(bundle)), member


async def test_d13_a_token_deposit_is_proven_by_its_log(desk_of: Callable[[str], Any]) -> None:
    async with desk_of("anvil") as desk:
        await desk.pay("anna", asset="eth:USDT", amount=5_000_000)
        await desk.pay("ben")
        await desk.mine(3)
        [token] = [item for item in await desk.watch.deposits() if item.asset == "eth:USDT"]
        content = (await desk.proof(token)).body
        assert failed(content) == []
        bundle = json.loads(content)
        assert bundle["deposit"]["position"] == "log:0"
        assert bundle["finality"]["is_reached"] is False
        bundle["deposit"]["contract"] = "0x" + "11" * 20
        assert {"transfer", "asset"} <= set(failed(resealed(bundle)))


async def test_d13_d73_a_token_that_no_list_has_is_proven_by_its_log(
    desk_of: Callable[[str], Any],
) -> None:
    """It is `unsupported` and never booked, but that it arrived can be shown to its sender."""
    async with desk_of("anvil") as desk:
        assert isinstance(desk.world, AnvilWorld)
        node = desk.world._node
        anna = await desk.watch.address("anna")
        strange = await evm.deploy(node, "UsdtLike")
        await evm.mint(node, strange, anna.address, 5_000_000)
        await desk.watch.follow()
        await desk.mine(1)
        deposit = await desk.watch.deposit()
        assert (deposit.state, deposit.asset) == ("unsupported", f"eth:{strange.lower()}")
        content = (await desk.proof(deposit)).body
        bundle = json.loads(content)
        assert failed(content) == []
        assert is_verified(verify(content))
        assert (bundle["deposit"]["contract"], bundle["deposit"]["decimals"]) == (
            strange.lower(),
            None,
        )
        bundle["deposit"]["amount_minor"] = "5000001"
        assert failed(resealed(bundle))


async def test_d13_a_coinbase_paid_to_a_player_is_proven(desk_of: Callable[[str], Any]) -> None:
    async with desk_of("bitcoind") as desk:
        assert isinstance(desk.world, UtxoNodeWorld)
        anna = await desk.watch.address("anna")
        await desk.world._node.rpc("generatetoaddress", 1, anna.address)
        await desk.watch.follow()
        await desk.mine(2)
        deposit = await desk.watch.deposit()
        assert deposit.is_coinbase
        reply = await desk.proof(deposit)
        assert failed(reply.body) == []
        inclusion = reply.json()["inclusion"]
        assert inclusion["raw_tx"] == inclusion["coinbase"]


async def test_d13_there_is_no_proof_before_a_block_nor_for_another_brand(
    desk_of: Callable[[str], Any],
) -> None:
    async with desk_of("bitcoind") as desk:
        await desk.pay("anna")
        await desk.watch.follow()
        deposit = await desk.watch.deposit()
        early = await desk.proof(deposit)
        assert (early.status, problem(early)["code"]) == (409, "unconfirmed")
        assert problem(early)["retryable"] is True
        await desk.mine(1)
        assert (await desk.proof(deposit)).status == 200
        other = await desk.proof(deposit, key="zest-key")
        assert (other.status, problem(other)["code"]) == (404, "not_found")


@pytest.mark.parametrize("backend", REAL_BACKENDS)
async def test_d02_d13_after_a_reorg_the_proof_is_of_the_new_block(
    backend: str, desk_of: Callable[[str], Any]
) -> None:
    async with desk_of(backend) as desk:
        await desk.pay("anna")
        await desk.mine(1)
        first = (await desk.proof(await desk.watch.deposit())).json()
        await desk.world.lose(1)
        await desk.watch.follow()
        lost = await desk.proof(await desk.watch.deposit())
        assert lost.status == 409
        await desk.mine(2)
        content = (await desk.proof(await desk.watch.deposit())).body
        assert failed(content) == []
        again = json.loads(content)
        assert again["deposit"]["txid"] == first["deposit"]["txid"]
        assert again["block"]["hash"] != first["block"]["hash"]
        rows = await desk.house.rows("SELECT block_hash FROM chain.evidence")
        assert [row["block_hash"] for row in rows] == [again["block"]["hash"]]


async def test_headers_are_kept_as_far_as_a_proof_needs_them(
    desk_of: Callable[[str], Any],
) -> None:
    """None before the first deposit, none beyond the deepest tier."""
    async with desk_of("bitcoind") as desk:
        await desk.mine(3)
        assert await desk.house.rows("SELECT hash FROM chain.headers") == []
        await desk.pay("anna")
        network = desk.watch.network
        deepest = max(tier.full_depth for tier in desk.watch.registry.assets["btc:BTC"].tiers)
        await desk.mine(max(deepest, network.spec.full_depth) + 3)
        kept = await desk.house.rows("SELECT hash FROM chain.headers")
        assert len(kept) == max(deepest, network.spec.full_depth)
        assert failed((await desk.proof(await desk.watch.deposit())).body) == []
