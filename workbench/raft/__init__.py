"""Consensus of one group, sans-IO: proposals, ticks and messages in, Ready out.

Raft        many voters (`core`)
SingleVoter one voter, which walks the same way (`single`)
"""

from workbench.raft.core import Raft
from workbench.raft.single import SingleVoter

__all__ = ["Raft", "SingleVoter"]
