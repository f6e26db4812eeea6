"""A merge or split of own coins that a person asks for: now, instead of in a cheap hour (T8).

Owns the answer to each request: it is looked at once, in the lane's next pass, and then quoted,
planned or refused by code. The bounds of policy hold for people, too; what they decide is the
moment, and the most that it may cost.
"""

from functools import partial

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import consolidations
from gateway.payouts import consolidations_store as store
from gateway.payouts.consolidations import Trigger
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap, FeesUnknown
from gateway.payouts.upkeep import Upkeep
from signer.protocol import Purpose
from watchers.errors import PoolEmpty

log = get_logger(__name__)


class AskedUpkeep:
    """The step of a lane that answers people's requests."""

    def __init__(self, lane: Lane, upkeep: Upkeep) -> None:
        self._lane = lane
        self._upkeep = upkeep

    async def run(self) -> None:
        """Answer the open request of the network, if there is one. Raises CoinTaken: the next pass
        looks again."""
        lane = self._lane
        if lane.is_account_based:
            return
        async with lane.database.unit_of_work() as uow:
            if await store.asked(uow, network=lane.network) is None:
                return
        try:
            if await lane.run(self._answer):
                lane.crash("payout.upkeep_planned")
        except FeesUnknown:
            await lane.run(partial(self._refuse, code="fees_unknown"))
        except FeeAboveCap:
            await lane.run(partial(self._refuse, code="network_fee_too_high"))
        except PoolEmpty:
            await lane.run(partial(self._refuse, code="no_change_address"))

    async def _answer(self, uow: Uow) -> bool:
        lane, at = self._lane, self._lane.now()
        row = await store.asked(uow, network=lane.network, lock=True)
        if row is None:
            return False
        refuse = partial(consolidations.move, uow, row, Trigger.REFUSE, at=at)
        if row.created_at + consolidations.VALID < at:
            await refuse(code="expired")
            return False
        found = await self._upkeep.asked(uow, Purpose(row.purpose))
        if isinstance(found, str):
            await refuse(code=found)
            return False
        if row.is_dry:
            await consolidations.move(uow, row, Trigger.QUOTE, at=at, shape=found)
            return False
        if row.fee_max_minor is None or found.fee_minor > row.fee_max_minor:
            await refuse(code="fee_above_asked", shape=found)
            return False
        attempt_id = await self._upkeep.commit(uow, found)
        await consolidations.move(uow, row, Trigger.PLAN, at=at, shape=found, attempt_id=attempt_id)
        return True

    async def _refuse(self, uow: Uow, *, code: str) -> None:
        row = await store.asked(uow, network=self._lane.network, lock=True)
        if row is not None:
            await consolidations.move(uow, row, Trigger.REFUSE, at=self._lane.now(), code=code)
            log.info("payout.upkeep_not_now", network=row.network, code=code)
