"""How often Python looks for garbage in cycles, in processes that work for months.

What a process holds once it is set up (modules, models, registries) lives as long as it does: some
hundred thousand objects that each full look walks through, and blocks or groups of orders make new
ones by the thousand. It frees nothing by itself and turns nothing off.
"""

import gc
from typing import Final

YOUNG_MAX: Final = 20_000
"""Objects made and not freed before the youngest are looked at; 700 without a word. What has no
cycle is freed at once, whatever this says."""


def settle() -> None:
    """Leave everything that lives now out of every later look. To be called once set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
