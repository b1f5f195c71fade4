"""``python -m dcond`` is ``dcond``."""

try:
    from dcond.cli.main import command
except KeyboardInterrupt:  # before anything could be told in one line
    raise SystemExit(130) from None

if __name__ == "__main__":
    command()
