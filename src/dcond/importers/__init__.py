"""Synthetic sets of other projects: public layouts, recognised by content and read as data only."""

from dcond.importers.source import Source

__all__ = ["Source"]
