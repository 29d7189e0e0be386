"""Implementations of the ObjectStore port. Import the module you need; nothing is re-exported."""
