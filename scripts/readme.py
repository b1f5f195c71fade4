"""Put the output of the README's first command, and the picture it makes, into the README.

python scripts/readme.py            # wants a quiet machine: the output tells the time a run takes
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
    with tempfile.TemporaryDirectory() as outputs:
        environment = os.environ | {"DCOND_OUTPUTS": outputs, "COLUMNS": "80"}
        start = time.perf_counter()
        command = [sys.executable, "-m", "dcond", "condense"]
        done = subprocess.run(command, check=True, text=True, capture_output=True, env=environment)
        took = time.perf_counter() - start
        (folder,) = Path(outputs).glob("condense/*/*")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "grid.png", PICTURE)
        cost = json.loads((folder / "result.json").read_text())["cost"]
        text = done.stdout.replace(outputs, "outputs").replace(folder.name, "DATE_TIME")
    lines = [line.rstrip() for line in text.splitlines()]
    block = "\n".join(f"    {line}".rstrip() for line in lines)
    README.write_text(
        BLOCK.sub(lambda found: f"{found[1]}\n{block}\n\n{found[2]}", README.read_text())
    )
    print(
        f"{took:.0f} s in all, {cost['condense_wall_s']:.0f} s of them condensing", file=sys.stderr
    )


if __name__ == "__main__":
    main()
