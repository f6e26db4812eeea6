"""A stolen gateway asks a thousand wrong questions (S01 to S05, S07, S08, S11, S15, S23)."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.signer_client import SignerClient
from signer.logs import Log
from signer.pool import PoolVerifier
from signer.protocol import ProtocolError, Refusal, SignedTx
from signer.server import SignerServer
from tests.support.adversary import Attacker, Judge, intents
from tests.support.vault import SIGNER_TOML, open_kit, trusted_kit

QUESTIONS = 1_000
START_SECONDS = 30.0
ANSWER_SECONDS = 60.0
DUAL = {
    "cap_tx_minor = 500000000\n": "cap_tx_minor = 500000000\ndual_limit_minor = 40000000\n",
    'cap_tx_minor = "5000000000000000000"\n': (
        'cap_tx_minor = "5000000000000000000"\ndual_limit_minor = "400000000000000000"\n'
    ),
}


@pytest.mark.parametrize("seed", [1])
async def test_s01_s02_s05_s15_thousand_wrong_questions_get_no_wrong_signature(
    seed: int, session_folder: Path
) -> None:
    """Every signed request of the gateway's database and the signer's socket are the attacker's.

    Honest questions are asked between, so that there are families to abuse. Whatever is signed is
    read by bitcoinlib and eth-account and must be one of the clients' orders, once, within limits.
    """
    folder = session_folder / f"adversary-{seed}"
    folder.mkdir()
    made = trusted_kit(folder)
    made.store.close()
    text = SIGNER_TOML
    for old, new in DUAL.items():
        text = text.replace(old, new)
    (made.folder / "signer.toml").write_text(text, "utf-8")
    kit = open_kit(made.folder, made.clock)
    server = SignerServer(
        settings=kit.settings,
        vault=kit.vault,
        pool=PoolVerifier(kit.keyring),
        trust=kit.trust,
        store=kit.store,
        clock=kit.clock,
        log=Log(kit.log, kit.clock),
    )
    ready = asyncio.Event()
    serving = asyncio.create_task(server.run(ready.set))
    async with asyncio.timeout(START_SECONDS):
        await ready.wait()
    client = SignerClient(kit.settings.socket, timeout_seconds=ANSWER_SECONDS)
    orders = intents()
    attacker = Attacker(kit=kit, random=Random(seed), orders=orders)
    judge = Judge(kit=kit, orders=orders)
    codes: dict[str, int] = {}
    signed = 0
    try:
        for number in range(QUESTIONS):
            is_honest = number % 25 == 0
            asked = (
                attacker.honest(orders[number // 25 % len(orders)])
                if is_honest
                else attacker.attack()
            )
            try:
                answer = await client.sign(asked)
            except (SignerUnavailable, ProtocolError) as error:
                codes[type(error).__name__] = codes.get(type(error).__name__, 0) + 1
                continue
            if isinstance(answer, SignedTx):
                judge.judge(asked, answer)
                attacker.signed.append(asked)
                signed += 1
            else:
                assert isinstance(answer, Refusal)
                codes[answer.code] = codes.get(answer.code, 0) + 1
    finally:
        serving.cancel()
        await asyncio.wait([serving], timeout=START_SECONDS)
        kit.store.close()
    assert signed >= 10, f"seed {seed}: the honest ones were not signed: {json.dumps(codes)}"
    assert sum(codes.values()) >= QUESTIONS * 8 // 10, f"seed {seed}: {json.dumps(codes)}"
    assert len(codes) >= 15, f"seed {seed}: the questions are too much alike: {json.dumps(codes)}"
    assert "signer.internal_error" not in kit.log.getvalue()
