"""`python -m workbench.node --config FILE` runs one node in the foreground."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench.node.server import serve


def main(arguments: list[str] | None = None) -> int:
    """Run a node and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m workbench.node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="TOML file of this node")
    return serve(parser.parse_args(arguments).config)


if __name__ == "__main__":
    sys.exit(main())
