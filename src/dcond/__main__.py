"""``python -m dcond`` is ``dcond``."""

from dcond.cli import command

if __name__ == "__main__":
    command()
