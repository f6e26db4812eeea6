"""`python -m gateway.sandbox.link_nodes FOLDER`: fetch the pinned nodes and put them on the path.

For images of development nodes (Dockerfile). Exit 1 names the node that cannot be had.
"""

import sys
from pathlib import Path

from gateway.sandbox.provision import NODES, provision


def main(arguments: list[str]) -> int:
    """Link every node into the folder."""
    folder = Path(arguments[0])
    found = provision(NODES, progress=print)
    for name, program in found.programs.items():
        (folder / name).symlink_to(program)
    for reason in found.missing.values():
        sys.stderr.write(f"{reason}\n")
    return 1 if found.missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
