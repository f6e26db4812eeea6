"""Whether the network's collector may be used: it is that of our accounts, and it stands there.

Owns no row: a collector holds nothing. Its address follows from its code, hot lane 0 and gas
account 0, so that code at that address is this code (docs/adr/0035). A setting for other accounts,
and a contract that nobody deployed or that a reorganisation undid, are told and used for nothing.
"""

from config.chains import ChainSpec
from config.database import Database
from config.logs import get_logger
from watchers import addresses
from watchers.chain import Chain
from watchers.errors import PoolEmpty
from watchers.registry import collector_key

log = get_logger("watchers.collector")


async def is_in_force(database: Database, chain: Chain, spec: ChainSpec) -> bool:
    """Whether deposit addresses may delegate to it now. Raises NodeUnavailable."""
    collector = spec.collector
    if collector is None or not spec.collects:
        return False
    try:
        async with database.unit_of_work() as uow:
            hot = await addresses.own_address(uow, network=spec.network, role="hot")
            gas = await addresses.own_address(uow, network=spec.network, role="gas")
    except PoolEmpty:
        return False
    expected = collector_key(spec, hot_key=hot.key, sender_key=gas.key)
    if collector != expected:
        log.error("collector.not_ours", network=spec.network, key=collector, ours=expected)
        return False
    height = await chain.reader.finalised_height()
    if height is None:
        height = (await chain.reader.tip()).height - spec.full_depth
    ref = await chain.reader.ref_at(max(height, 0))
    if ref is None or not await chain.reader.with_code([collector], block_hash=ref.hash):
        log.warning("collector.not_there", network=spec.network, key=collector)
        return False
    return True
