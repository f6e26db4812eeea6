"""Cold wallets whose keys the house never has: people with keys of public BIP 32 test vectors.

They must never hold anything of value. `sign` stands for a device; tests on real nodes let the
nodes' own wallets sign instead (`device`).
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embit import bip32, psbt
from embit.descriptor.checksum import add_checksum
from embit.networks import NETWORKS
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput

from gateway.sandbox.nodes import Litecoind, UtxoNode
from gateway.sandbox.rpc import JsonRpc
from watchers.chain import Coin, Outpoint, Pay, Unsigned
from watchers.chains.bitcoin import cold_build
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.descriptor import ColdDescriptor
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.cold_spends import ColdCoin, ColdPlace, ColdPlan

SEEDS = tuple(  # BIP 32, test vectors 1 to 3
    bytes.fromhex(text)
    for text in (
        "000102030405060708090a0b0c0d0e0f",
        "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542",
        "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
    )
)
MULTI_PATH, SINGLE_PATH = "48h/1h/0h/2h", "84h/1h/0h"  # BIP 48 (P2WSH), BIP 84
BRANCHES = "/<0;1>/*"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdPeople:
    """The owners of one cold wallet on a test network: `threshold` of them sign."""

    threshold: int
    count: int

    @property
    def path(self) -> str:
        """Of each account key below its root."""
        return SINGLE_PATH if self.count == 1 else MULTI_PATH

    def root(self, person: int) -> bip32.HDKey:
        """A person's own root key."""
        return bip32.HDKey.from_seed(SEEDS[person], version=NETWORKS["regtest"]["xprv"])

    def fingerprint(self, person: int) -> str:
        """How files name this person's device."""
        return str(self.root(person).my_fingerprint.hex())

    def text(self, *, private: int | None = None, suffix: str = BRANCHES) -> str:
        """The descriptor with its checksum; with one person's own private key where asked."""
        keys = []
        for person in range(self.count):
            account = self.root(person).derive(f"m/{self.path}")
            key = account if person == private else account.to_public()
            keys.append(f"[{self.fingerprint(person)}/{self.path}]{key.to_base58()}{suffix}")
        if self.count == 1:
            return str(add_checksum(f"wpkh({keys[0]})"))
        return str(add_checksum(f"wsh(sortedmulti({self.threshold},{','.join(keys)}))"))

    def wallet(self, params: BitcoinParams) -> ColdDescriptor:
        """As the house knows it."""
        return ColdDescriptor(self.text(), params)

    def sign(self, unsigned: bytes, person: int) -> bytes:
        """The PSBT with this person's signatures."""
        container = psbt.PSBT.parse(unsigned)
        container.sign_with(self.root(person))
        return bytes(container.serialize())

    async def device(self, node: UtxoNode, person: int) -> "Device":
        """A wallet on a node of its own that signs for this person, and for nobody else."""
        name = f"signer-{self.fingerprint(person)}-{self.count}"
        has_descriptors = not isinstance(node, Litecoind)  # Debian's is built without SQLite
        await node.rpc("createwallet", name, False, True, "", False, has_descriptors)
        device = Device(url=f"{node.url}/wallet/{name}")
        requests = [
            {
                "desc": self.text(private=person, suffix=f"/{branch}/*"),
                "timestamp": "now",
                "range": [0, 20],
                "internal": bool(branch),
                **({} if has_descriptors or self.count == 1 else {"watchonly": True}),
            }
            for branch in (0, 1)
        ]
        method = "importdescriptors" if has_descriptors else "importmulti"
        results = await device.rpc(method, requests)
        assert all(item["success"] for item in results), results
        return device


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A node's own wallet as a signing tool that is not ours."""

    url: str

    async def rpc(self, method: str, *params: Any) -> Any:
        """One call of this wallet."""
        async with JsonRpc(self.url) as rpc:
            return await rpc.call(method, *params)

    async def sign(self, unsigned: bytes) -> bytes:
        """The PSBT as the wallet gives it back."""
        text = base64.b64encode(unsigned).decode()
        answer = await self.rpc("walletprocesspsbt", text, True, "ALL")
        return base64.b64decode(answer["psbt"])

    async def decode(self, unsigned: bytes) -> Any:
        """What the node reads in a PSBT."""
        return await self.rpc("decodepsbt", base64.b64encode(unsigned).decode())


TWO_OF_THREE = ColdPeople(threshold=2, count=3)
ALONE = ColdPeople(threshold=1, count=1)


def made_coin(wallet: ColdDescriptor, *, branch: int, index: int, amount_minor: int) -> ColdCoin:
    """A coin that some tx of nobody made."""
    place = wallet.script(branch, index)
    tx = Transaction(
        version=2,
        vin=[TransactionInput(bytes([index]) * 32, branch)],
        vout=[TransactionOutput(amount_minor, Script(bytes.fromhex(place.key)))],
    )
    coin = Coin(
        outpoint=Outpoint(txid=bytes(tx.txid()).hex(), vout=0),
        amount_minor=amount_minor,
        key=place.key,
        path=place.path,
        previous_tx=bytes(tx.serialize()),
    )
    return ColdCoin(coin=coin, branch=branch, index=index)


def plan_of(
    wallet: ColdDescriptor,
    coins: Sequence[ColdCoin],
    *,
    params: BitcoinParams,
    to: str,
    amount_minor: int,
    fee_minor: int,
) -> Unsigned:
    """The built plan: all coins, one payment, the rest back to change 0."""
    rest = sum(item.coin.amount_minor for item in coins) - amount_minor - fee_minor
    plan = ColdPlan(
        descriptor=wallet.text,
        coins=tuple(coins),
        payment=Pay(asset=params.asset, address=to, amount_minor=amount_minor),
        change=ColdPlace(branch=1, index=0) if rest else None,
        change_minor=rest,
    )
    return cold_build.build(
        plan, params=params, codec=BitcoinAddressCodec(params), asset=params.asset
    )
