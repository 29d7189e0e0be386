"""Traces: recorded or generated accesses, as bytes in and Arrow tables out."""
