"""Other people's synthetic sets: public layouts recognised by their content, and read as data only."""

from dcond.imports.source import Source

__all__ = ["Source"]
