"""Versions of keys by commit timestamp: their encoding and their visibility. Sans-IO."""
