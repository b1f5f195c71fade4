"""Full disks, read-only folders, and folders that are removed during a run."""

import shutil
import subprocess
import time

import pytest

from dcond import artefact
from dcond.run import checkpoint

OVERRIDES = ("method=dm", "method.batch_real=8", "max_steps=20", "evaluate=false")
# A mount in a separate namespace ends with the process and needs no root.
MOUNT = 'mount -t tmpfs -o "size=$0" dcond "$1"; "${@:3}"; code=$?; cp -a "$1/." "$2"; exit $code'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def namespaces() -> bool:
    made = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"],
        capture_output=True,
        check=False,
    )
    return made.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("unshare") is None or not namespaces(), reason="needs namespaces (Linux)"
    ),
]


def inside(script: str, *arguments: object) -> tuple[str, ...]:
    return (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "bash",
        "-c",
        script,
        *map(str, arguments),
    )


@pytest.mark.parametrize("tensorboard", [False, True], ids=["plain", "tensorboard"])
def test_a_full_disk(tensorboard, whole, command, tmp_path, rng, kills, tally):
    """The sizes lie between those of Hydra's files and of the complete run."""
    arguments = (*OVERRIDES, f"tensorboard={tensorboard}".lower())
    needed = sum(
        -(-path.stat().st_size // 4096)
        for path in whole(*arguments).run.rglob("*")
        if path.is_file()
    )
    small, found = tmp_path / "small", []
    small.mkdir()
    for number in range(kills):
        pages, kept = rng.randrange(12, needed), tmp_path / f"kept{number}"
        kept.mkdir()
        before = inside(MOUNT, pages * 4096, small, kept)
        ended = command.ended(command.condense(small / "run", *arguments, before=before))
        told = ended.last.startswith("dcond: cannot write ") and "Free some space" in ended.last
        if ended.code != 1 or not told or "Traceback" in ended.err:
            found.append(f"{pages} pages: ended with {ended.code}: {ended.err[-2000:]}")
        if (kept / "run" / checkpoint.NAME).exists():
            checkpoint.load(kept / "run")
        if (kept / "run" / "synthetic.safetensors").exists():
            artefact.load(kept / "run")
        found += [path.name for path in kept.rglob(".*.tmp")]
    tally(
        "disk full, by a small tmpfs",
        "with TensorBoard" if tensorboard else "without",
        kills,
        found,
    )


def test_a_folder_that_vanishes(whole, command, tmp_path, rng, kills, tally):
    """The folder is removed during the loop, after the first checkpoint."""
    reference, found = whole(*OVERRIDES), []
    for number in range(kills):
        run = tmp_path / f"run{number}"
        process = command.condense(run, *OVERRIDES)
        while process.poll() is None and not (run / checkpoint.NAME).exists():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, reference.loop_s))
        finished = process.poll() is not None
        shutil.rmtree(run, ignore_errors=True)
        ended = command.ended(process)
        told = ended.last.startswith(f"dcond: cannot write {run}") and "Traceback" not in ended.err
        gone = finished or not run.exists()  # a successful run has not created the folder again
        if not (ended.code == 0 and gone) and not (ended.code == 1 and told):
            found.append(f"finished {finished}, ended with {ended.code}: {ended.err[-2000:]}")
    tally("the run folder vanishes", "dm", kills, found)


@pytest.mark.parametrize("where", ["outputs", "outputs/run"])
def test_a_read_only_folder(where, command, tmp_path):
    (tmp_path / where).mkdir(parents=True)
    run = tmp_path / "outputs" / "run"
    ended = command.ended(
        command.condense(run, *OVERRIDES, before=inside(READ_ONLY, tmp_path / where))
    )
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.last.startswith(f"dcond: cannot write {run}")
    assert "Read-only file system. Free some space or choose another folder" in ended.last
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
