"""The hotspot workbench: find hot key ranges, plan splits with a bound, approve, check."""

from workbench._version import __version__

__all__ = ["__version__"]
