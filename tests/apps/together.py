"""What torchrun starts in tests: the commands of a JSON list one after another, so that torch is imported once."""

import json
import sys

from hydra.core.global_hydra import GlobalHydra

from dcond import cli

for words in json.loads(sys.argv[1]):
    status = cli.main(words)
    GlobalHydra.instance().clear()
    if status:
        sys.exit(status)
