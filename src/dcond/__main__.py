"""``python -m dcond`` runs ``dcond``."""

try:
    from dcond.cli.main import command
except KeyboardInterrupt:  # during the imports, before main can handle it
    raise SystemExit(130) from None

if __name__ == "__main__":
    command()
