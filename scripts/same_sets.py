"""Compare the sets that two revisions of dcond make: ``python scripts/same_sets.py REVISION``.

Every method condenses digits with ``debug=tiny``; with ``--default`` M3D and HMDC also with their
own settings. The code of REVISION runs from a temporary worktree, that of this checkout from
``src``. Images and labels must be equal, bit for bit; the exit status is 1 otherwise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
METHODS = sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml"))


def condense(source: Path, folder: Path, *overrides: str) -> dict[str, bytes]:
    """Run ``dcond condense`` from a source folder; return the bytes of every tensor of its set."""
    command = [sys.executable, "-m", "dcond", "condense", *overrides, f"hydra.run.dir={folder}"]
    env = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run(command, env=env, check=True, capture_output=True)
    tensors = load_file(folder / "synthetic.safetensors")
    return {name: array.tobytes() for name, array in tensors.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="the commit to compare with")
    parser.add_argument("--default", action="store_true", help="also the default M3D and HMDC")
    arguments = parser.parse_args()
    runs = {method: (f"method={method}", "debug=tiny", "evaluate=false") for method in METHODS}
    if arguments.default:
        runs |= {
            f"{name}, default": (f"method={name}", "evaluate=false") for name in ("m3d", "hmdc")
        }
    different = []
    with tempfile.TemporaryDirectory() as scratch:
        worktree = Path(scratch, "worktree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", str(worktree), arguments.revision], check=True)
        try:
            for number, (name, overrides) in enumerate(runs.items()):
                sets = [
                    condense(source / "src", Path(scratch, f"{number}_{side}"), *overrides)
                    for side, source in (("then", worktree), ("now", ROOT))
                ]
                equal = sets[0] == sets[1]
                different += [] if equal else [name]
                print(f"{name}: {'equal' if equal else 'DIFFERENT'}", flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(worktree)], check=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
