"""What helps a node whose own files are damaged: one wording for every layer that finds damage.

A copy of one node's directory is never the answer. It forgets what the node promised since, and
then two leaders of one term, or lost writes, are possible; docs/nodes.md, "A node that lost its
disk".
"""

from __future__ import annotations

from typing import Final

DAMAGED_NODE_HINT: Final = (
    "keep the folder, and put no older copy in its place: replace the node with `workbench cluster "
    "remove-node` and `add-node`; where it is the only voter of its groups, make a new cluster and "
    "`workbench restore` the newest export into it"
)
