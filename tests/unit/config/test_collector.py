"""What lives when a process is set up is left out of later looks; new garbage is still found."""

import gc
import subprocess
import sys

PROGRAM = """
import gc
from config import collector

class Ring:
    def __init__(self):
        self.itself = self

collector.settle()
assert gc.isenabled() and gc.get_freeze_count() > 1_000, gc.get_freeze_count()
assert gc.get_threshold()[0] == collector.YOUNG_MAX
freed = []
for number in range(3 * collector.YOUNG_MAX):
    ring = Ring()
    if number == 0:
        import weakref
        weakref.finalize(ring, freed.append, number)
del ring
assert freed == [0]
"""


def test_what_lives_is_settled_and_new_cycles_are_freed() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
    assert gc.get_freeze_count() == 0  # of this process nothing was touched
