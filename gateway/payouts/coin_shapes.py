"""When own coins are merged or split, and which: pure, integers only.

Too many small coins make later batches dear, too few make payouts hang on each other's change
(F3). It decides on mined coins and the cost of the moment; whether the moment is cheap, and what
queued payouts need, is the business of `upkeep`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from config.policy import CoinPolicy
from gateway.payouts.coin_selection import GATHERED_MAX, fee_for
from signer.protocol import MAX_FRAME_BYTES, Purpose
from watchers.chain import Coin

MERGED_MAX: Final = GATHERED_MAX  # 14 kvB: far below what nodes relay
PREVIOUS_MAX_BYTES: Final = MAX_FRAME_BYTES // 2  # base64 adds a third, the PSBT itself little
MERGED_MIN: Final = 10  # fewer save less than the trouble
ASKED_MIN: Final = 2  # what a person asks for is worth the trouble
PARTS_MAX: Final = 25  # outputs of one split


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A tx of own coins to own change. `coins` = `parts_minor` + `fee_minor`, exactly. `saves_vb`:
    what a payout that spends what a merge makes need not carry, in virtual bytes."""

    purpose: Purpose
    coins: tuple[Coin, ...]
    parts_minor: tuple[int, ...]
    fee_minor: int
    rate_sat_per_kvb: int
    saves_vb: int | None = None

    @property
    def amount_minor(self) -> int:
        """What it spends."""
        return sum(coin.amount_minor for coin in self.coins)


def merge(
    coins: Sequence[Coin],
    *,
    policy: CoinPolicy,
    rate_sat_per_kvb: int,
    size_of: Callable[[int], int],
    dust_minor: int,
    is_asked: bool = False,
) -> Shape | None:
    """The smallest coins as one; None while there are few enough, or they make dust.

    A person who asks need not wait for `merge_above`.

    `size_of` gives virtual bytes by number of inputs. Coins that cost more than they bring stay
    (P31), and so do the `keep_coins` largest. Their previous txs fit into one question.
    """
    if not is_asked and not 0 < policy.merge_above < len(coins):
        return None
    cost = fee_for(size_of(2) - size_of(1), rate_sat_per_kvb=rate_sat_per_kvb)
    rising = sorted(coins, key=lambda coin: (coin.amount_minor, coin.outpoint.txid))
    free = rising[: max(len(rising) - policy.keep_coins, 0)]
    small = [coin for coin in free if coin.amount_minor > cost]
    chosen = _within_a_question(small[:MERGED_MAX])
    if len(chosen) < (ASKED_MIN if is_asked else MERGED_MIN):
        return None
    fee = fee_for(size_of(len(chosen)), rate_sat_per_kvb=rate_sat_per_kvb)
    rest = sum(coin.amount_minor for coin in chosen) - fee
    if rest <= dust_minor:
        return None
    return Shape(
        purpose=Purpose.CONSOLIDATE,
        coins=tuple(chosen),
        parts_minor=(rest,),
        fee_minor=fee,
        rate_sat_per_kvb=rate_sat_per_kvb,
        saves_vb=size_of(len(chosen)) - size_of(1),
    )


def split(
    coins: Sequence[Coin],
    *,
    policy: CoinPolicy,
    rate_sat_per_kvb: int,
    size_of_parts: Callable[[int], int],
    unmined: int,
    is_asked: bool = False,
) -> Shape | None:
    """The largest coin in equal parts; None while there are enough, or it is too small.

    `unmined` own change outputs are on their way and count. Half as many as wanted are enough, but
    for a person who asks: a wallet does not split a coin after each batch.
    """
    there = len(coins) + unmined
    enough = there if is_asked else 2 * there
    if not coins or enough >= policy.keep_coins:
        return None
    largest = max(coins, key=lambda coin: (coin.amount_minor, coin.outpoint.txid))
    wanted = min(policy.keep_coins - there + 1, PARTS_MAX)
    for count in range(wanted, 1, -1):
        fee = fee_for(size_of_parts(count), rate_sat_per_kvb=rate_sat_per_kvb)
        each = (largest.amount_minor - fee) // count
        if each >= policy.part_min_minor:
            last = largest.amount_minor - fee - each * (count - 1)
            return Shape(
                purpose=Purpose.FAN_OUT,
                coins=(largest,),
                parts_minor=(*[each] * (count - 1), last),
                fee_minor=fee,
                rate_sat_per_kvb=rate_sat_per_kvb,
            )
    return None


def _within_a_question(coins: Sequence[Coin]) -> list[Coin]:
    """As many of the first as the signer can be asked about at once."""
    taken: list[Coin] = []
    room = PREVIOUS_MAX_BYTES
    for coin in coins:
        room -= len(coin.previous_tx)
        if room < 0:
            break
        taken.append(coin)
    return taken
