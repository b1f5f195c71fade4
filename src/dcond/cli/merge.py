"""``dcond merge``: join sets of different classes into one."""

import argparse
import shlex

from dcond.cli.parser import make_parser
from dcond.errors import ConfigError
from dcond.paths import expand_home

EPILOG = """\
Images stay as they are. All sets have the same image size, ipc and factor, and no class in common.

example:
  dcond merge TASK_1 TASK_2 --out both     then: dcond evaluate both
"""


def main(argv: list[str]) -> int:
    """Run ``dcond merge`` with its arguments and return the exit code.

    Raises:
        ArtefactError: a set cannot be read, or the output cannot be written.
        ConfigError: the output exists, or a set is of other code.
        UnsupportedError: the sets do not go together.
    """
    arguments = _parser().parse_args(argv)
    paths, out = [expand_home(each) for each in arguments.sets], expand_home(arguments.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"{out} exists and is not overwritten; remove it or choose another --out."
        )
    # torch is slow to import, and --help does not need it
    from dcond import artefact
    from dcond.importers.source import is_artefact
    from dcond.merging import merge

    for path in paths:
        if not is_artefact(path):
            raise ConfigError(
                f"{path} is not an artefact of dcond; convert it: "
                f"dcond export {shlex.quote(str(path))} --to dcond dataset=NAME."
            )
    merged = merge([artefact.load(path) for path in paths])
    artefact.save_in(merged, out)
    print(f"{len(merged.images)} images of {len(merged.class_names)} classes -> {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = (
        "Join synthetic sets of different classes into one, such as those of continual learning."
    )
    parser = make_parser("merge", about, EPILOG)
    parser.add_argument(
        "sets",
        metavar="SET",
        nargs="+",
        help="a run folder or a synthetic.safetensors; two or more, in the order of the classes",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="new folder; gets synthetic.safetensors"
    )
    return parser
