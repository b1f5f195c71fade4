"""What torchrun starts in tests: the commands of a JSON list one after another, so that torch is imported once."""

import json
import sys

from hydra.core.global_hydra import GlobalHydra

from dcond import cli
from dcond.apps.torchrun import leave

status = 0
for words in json.loads(sys.argv[1]):
    status = status or cli.main(words)
    GlobalHydra.instance().clear()
leave(status)
