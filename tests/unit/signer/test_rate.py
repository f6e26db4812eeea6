"""A burst of requests is limited and told (S24)."""

import json

from signer.protocol import SignedTx, Voided
from signer.rate import RateLimit
from tests.support.sign_requests import payment, utxo_request, void_of
from tests.support.vault import HandClock, VaultKit, open_kit


def limited(kit: VaultKit, per_minute: int) -> VaultKit:
    """The same signer with this rate."""
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8").replace(
        "[signer]\n", f"[signer]\nsigns_per_minute = {per_minute}\n"
    )
    path.write_text(text, "utf-8")
    return open_kit(kit.folder, kit.clock)


def ask(kit: VaultKit, number: int) -> str:
    """What becomes of one payment of its own."""
    answer = kit.sign(
        utxo_request(
            kit,
            attempt_id=f"b-{number}",
            salts=(number,),
            payments=(payment(request_id=f"r-{number}"),),
        )
    )
    return "signed" if isinstance(answer, SignedTx) else answer.code


def test_s24_a_burst_ten_times_over_the_rate_is_limited_with_one_alarm(kit: VaultKit) -> None:
    made = limited(kit, 6)
    answers = [ask(made, number) for number in range(60)]
    assert answers == ["signed"] * 6 + ["rate_limited"] * 54
    alarms = [json.loads(line) for line in made.log.getvalue().splitlines()]
    over = [line for line in alarms if line["event"] == "signer.rate_limited"]
    assert [(line["level"], line["per_minute"]) for line in over] == [("warning", 6)]
    made.store.close()


def test_s24_what_was_limited_is_judged_later_as_if_never_asked(kit: VaultKit) -> None:
    """Nothing of it is stored: the same attempt is signed once its turn comes, and only then."""
    made = limited(kit, 6)
    before = [ask(made, number) for number in range(7)]
    assert before[-1] == "rate_limited"
    head = made.vault.head().sequence
    made.clock.now += 9
    assert ask(made, 6) == "rate_limited"
    made.clock.now += 1
    assert ask(made, 6) == "signed"
    assert made.vault.head().sequence == head + 1
    assert ask(made, 7) == "rate_limited"
    made.clock.now += 10
    assert ask(made, 7) == "signed"
    made.store.close()


def test_s24_other_questions_are_answered_in_a_burst(kit: VaultKit) -> None:
    """Who looks up what was signed, or gives up an order, is not kept waiting by a thief."""
    made = limited(kit, 1)
    assert [ask(made, 1), ask(made, 2)] == ["signed", "rate_limited"]
    assert isinstance(made.vault.lookup("b-1"), SignedTx)
    voided = made.vault.void(void_of(None, request_id="r-2"))
    assert isinstance(voided, Voided)
    made.store.close()


def test_s24_a_clock_set_back_or_far_ahead_gives_one_minute_at_most() -> None:
    clock = HandClock(1_000)
    rate = RateLimit(per_minute=3, clock=clock)
    assert [rate.take() for _ in range(4)] == [True, True, True, False]
    clock.now -= 500
    assert rate.take() is False
    clock.now += 20
    assert [rate.take(), rate.take()] == [True, False]
    clock.now += 10**9
    assert [rate.take() for _ in range(4)] == [True, True, True, False]
