"""Run the README's first command and put its output and picture into the README.

python scripts/readme.py    # on a quiet machine: the script prints the duration of the run
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

README = Path("README.md")
PICTURE = Path("docs/images/digits_ipc1.png")
BLOCK = re.compile(r"(<!-- output -->\n).*?(<!-- end of output -->)", re.DOTALL)


def main() -> None:
    """Run the command, copy the picture, and replace the output in the README."""
    with tempfile.TemporaryDirectory() as outputs:
        environment = os.environ | {"DCOND_OUTPUTS": outputs, "COLUMNS": "80"}
        start = time.perf_counter()
        command = [sys.executable, "-m", "dcond", "condense"]
        done = subprocess.run(command, check=True, text=True, capture_output=True, env=environment)
        seconds = time.perf_counter() - start
        (folder,) = Path(outputs).glob("condense/*/*")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "grid.png", PICTURE)
        cost = json.loads((folder / "result.json").read_text())["cost"]
        text = done.stdout.replace(outputs, "outputs").replace(folder.name, "DATE_TIME")
    lines = [line.rstrip() for line in text.splitlines()]
    block = "\n".join(f"    {line}".rstrip() for line in lines)
    README.write_text(
        BLOCK.sub(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", README.read_text())
    )
    print(
        f"{seconds:.0f} s in total, {cost['condense_wall_s']:.0f} s of them condensing",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
