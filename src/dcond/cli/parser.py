"""Parsers of the sub-commands whose arguments Hydra does not read."""

import argparse


def make_parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of a sub-command; its epilog is printed as it is."""
    return argparse.ArgumentParser(
        prog=f"dcond {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_settings(
    parser: argparse.ArgumentParser, text: str | None = None, metavar: str = "KEY=VALUE"
) -> None:
    """Add ``settings``, any number of words."""
    # Without a default, argparse would call these required.
    parser.add_argument("settings", metavar=metavar, nargs="*", default=[], help=text)
