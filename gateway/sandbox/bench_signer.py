"""The benchmark `signer.sign`: batches of 100 payments that the signer proves and signs.

The signer is the real process behind its socket, with a store that fsyncs; each batch has its own
orders, signed by a trusted client, and ten coins whose previous txs travel along. The floor does
what no signer can leave out: as many signatures, as many verifications of Ed25519, one commit of
SQLite with `synchronous = FULL`.
"""

import hashlib
import json
from contextlib import AsyncExitStack, closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from config.clock import Clock, SystemClock
from config.registry import load_registry
from gateway.payouts.signer_client import SignerClient
from gateway.sandbox import story
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_catchup import program_of
from gateway.sandbox.bench_coins import FreeCoin, spend
from gateway.sandbox.bench_house import BenchFailed
from gateway.sandbox.bench_signer_store import answers, remember
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import Bitcoind
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.stage import Stage, open_story, set_up
from gateway.sandbox.story import Story
from gateway.sandbox.world import World
from signer.protocol import Authorisation, Payment, Purpose, SignedTx, SignRequest
from watchers.chain import Chain, Coin, Outpoint, Pay, UtxoPlan
from watchers.registry import build_chain

PAYMENTS = 100
COINS = 10
ROUNDS = 7
AMOUNT_MINOR = 100_000
AMOUNT = "0.001"
FEE_MINOR = 20_000
ASSET = "btc:BTC"
HOT_PATH = "m/84h/1h/0h/0/0"
DESTINATION = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # a public vector of BIP 173
EPOCH = 500_000  # beyond every lease of this deployment, within the step that the signer takes
TIMEOUT_SECONDS = 60.0


async def bench_sign(server: EmbeddedPostgres) -> BenchResult:
    """Batches per second, one after the other."""
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(
                Bitcoind(program_of("bitcoind"), Path(folder) / "btc")
            )
            await node.ensure_funds()
            clock = SystemClock()
            told = Narration(
                clock=clock,
                console=Console(stderr=True, quiet=True),
                started_seconds=clock.monotonic_seconds(),
            )
            world = World(utxo={"btc": node}, anvil=None, usdt=None)
            stage = await set_up(stack, told, clock, Path(folder), world)
            tale = await open_story(stack, stage)
            return await _measure(stack, stage, tale, Path(folder))


async def _measure(stack: AsyncExitStack, stage: Stage, tale: Story, folder: Path) -> BenchResult:
    deployment, clock = stage.deployment, stage.clock
    registry = load_registry(deployment.settings)
    chain = build_chain(
        registry.chains["btc"],
        [stage.world.utxo["btc"].url],
        registry.assets.values(),
        clock=clock,
    )
    stack.push_async_callback(chain.close)
    hot = (await tale.until("the hot address", lambda: story.hot_addresses(tale, [ASSET])))[ASSET]
    client = SignerClient(deployment.vault_folder / "signer.sock", timeout_seconds=TIMEOUT_SECONDS)
    figures, floors = [], []
    for number in range(ROUNDS):
        request = _request(tale, chain, hot, number)
        start_seconds = clock.monotonic_seconds()
        answer = await client.sign(request)
        figures.append(1 / (clock.monotonic_seconds() - start_seconds))
        if not isinstance(answer, SignedTx):
            raise BenchFailed(f"refused: {answer.code}: {answer.reason}")
        floors.append(_floor(folder / f"floor-{number}.db", request.unsigned, clock))
    figure, floor = median(figures), median(floors)
    return BenchResult(
        name="signer.sign",
        figure=figure,
        unit="batches/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


def _request(tale: Story, chain: Chain, hot: str, number: int) -> SignRequest:
    script = bytes.fromhex(chain.codec.parse(hot).key)
    total = PAYMENTS * AMOUNT_MINOR + FEE_MINOR
    coins = [_coin(number * COINS + place, -(-total // COINS), script) for place in range(COINS)]
    unsigned = chain.writer.build(
        UtxoPlan(
            coins=tuple(coins),
            payments=tuple(
                Pay(asset=ASSET, address=DESTINATION, amount_minor=AMOUNT_MINOR)
                for _ in range(PAYMENTS)
            ),
            change=None,
            change_minor=0,
        )
    )
    return SignRequest(
        attempt_id=f"bench-{number}",
        purpose=Purpose.WITHDRAWAL,
        network="btc",
        worker_epoch=EPOCH,
        unsigned=unsigned.data,
        input_paths=(HOT_PATH,) * COINS,
        change_paths={},
        payments=tuple(_payment(tale, number, place) for place in range(PAYMENTS)),
    )


def _coin(number: int, amount_minor: int, script: bytes) -> Coin:
    """A coin of the hot address that no chain has: the signer only asks that the bytes agree."""
    source = FreeCoin(txid=hashlib.sha256(b"bench%d" % number).hexdigest(), vout=0, value=0)
    txid, raw = spend(source, [(1_000, script), (amount_minor, script)])
    return Coin(
        outpoint=Outpoint(txid=txid, vout=1),
        amount_minor=amount_minor,
        key=script.hex(),
        path=HOT_PATH,
        previous_tx=bytes.fromhex(raw),
    )


def _payment(tale: Story, number: int, place: int) -> Payment:
    request_id = f"bench-{number}-{place}"
    body = {
        "request_id": request_id,
        "player_id": f"p{place}",
        "asset": ASSET,
        "address": DESTINATION,
        "amount": AMOUNT,
        "pam_balance": "0",
    }
    signer = tale.brands["acme"].signer
    made = signer.sign(
        "POST", "/v1/withdrawals", body=json.dumps(body).encode(), idempotency_key=request_id
    )
    headers = {name.lower(): value for name, value in made.headers.items()}
    return Payment(
        brand="acme",
        request_id=request_id,
        output_index=place,
        authorisation=Authorisation(
            method="POST",
            authority=headers["host"],
            path="/v1/withdrawals",
            query="?",
            headers={name: headers[name] for name in ("content-digest", "idempotency-key")},
            body=made.body,
            signature_input=headers["signature-input"],
            signature=headers["signature"],
        ),
    )


def _floor(file: Path, unsigned: bytes, clock: Clock) -> float:
    key, client = PrivateKey(), Ed25519PrivateKey.generate()
    message = b"a client's order" * 20
    proofs = [(client.public_key(), client.sign(message)) for _ in range(PAYMENTS)]
    digests = [hashlib.sha256(b"%d" % place).digest() for place in range(COINS)]
    with closing(answers(file)) as connection:
        start_seconds = clock.monotonic_seconds()
        for public, proof in proofs:
            public.verify(proof, message)
        made = [key.sign(digest, hasher=None) for digest in digests]
        remember(connection, unsigned, b"".join(made))
        return 1 / (clock.monotonic_seconds() - start_seconds)
