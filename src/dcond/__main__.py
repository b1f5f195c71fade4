"""``python -m dcond`` is ``dcond``."""

import sys

from dcond.cli import main

if __name__ == "__main__":
    sys.exit(main())
