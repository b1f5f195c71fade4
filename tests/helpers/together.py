"""Program for torchrun: run the commands of a JSON list one after another."""

import json
import sys

from hydra.core.global_hydra import GlobalHydra

from dcond.cli import main as cli
from dcond.cli.torchrun import exit_process

status = 0
for arguments in json.loads(sys.argv[1]):
    status = status or cli.main(arguments)
    GlobalHydra.instance().clear()
exit_process(status)
