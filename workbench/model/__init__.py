"""Frozen values that every layer shares. Import the module you need; nothing is re-exported."""
