"""Consensus of one group, sans-IO: proposals, ticks and messages in, Ready out."""
