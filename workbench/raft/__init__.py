"""Consensus of one group, sans-IO: proposals, ticks and messages in, Ready out."""

from workbench.raft.core import Raft

__all__ = ["Raft"]
