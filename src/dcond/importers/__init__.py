"""Other people's synthetic sets: public layouts recognised by their content, and read as data only."""

from dcond.importers.source import Source

__all__ = ["Source"]
