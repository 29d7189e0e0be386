"""Connectors: one module per system, found by the entry-point group `workbench.connectors`."""
