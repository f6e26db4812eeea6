"""P37: a watcher does not grow. In full, with a million addresses: `cage drill soak`."""

import pytest

from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.soak import SAMPLES, Sample, judged, soak

BLOCKS = 400
ADDRESSES = 50_000


@pytest.mark.node
@pytest.mark.postgres
@pytest.mark.slow
async def test_p37_a_watcher_that_follows_for_long_stays_flat(postgres: EmbeddedPostgres) -> None:
    samples: list[Sample] = []
    result = await soak(
        postgres, "cage_soak", blocks=BLOCKS, addresses=ADDRESSES, step=samples.append
    )
    assert len(samples) == SAMPLES
    assert result.blocks == BLOCKS
    assert result.is_flat, samples


@pytest.mark.parametrize(
    ("rss_kb", "files", "is_flat"),
    [
        ([900, 1000, 1000, 1000, 1000, 1000, 1050, 1050], [20] * 8, True),
        ([900, 1000, 1000, 1000, 1000, 1000, 1051, 1051], [20] * 8, False),
        ([1000] * 8, [20, 20, 20, 21, 21, 22, 22, 22], False),
    ],
)
def test_p37_growth_of_memory_or_files_is_seen(
    rss_kb: list[int], files: list[int], is_flat: bool
) -> None:
    samples = [
        Sample(blocks=number, rss_kb=rss, files=count)
        for number, (rss, count) in enumerate(zip(rss_kb, files, strict=True))
    ]
    assert judged(samples, addresses=1).is_flat is is_flat
