"""``dcond export``: write a synthetic set in formats that other programs read."""

import argparse

from dcond.cli.parser import add_settings, make_parser
from dcond.errors import ArtefactError, ConfigError, first_line
from dcond.log import log_plainly
from dcond.paths import expand_home

SUFFIXES = {"png": "", "npz": ".npz", "pt": ".pt", "dcond": ".safetensors"}
EPILOG = """\
formats:
  png   a folder with one folder per class and one 8-bit file per image, clipped to [0, 1];
        without soft labels
  npz   images float32 (n, h, w, c), labels (soft ones as probabilities), class_names, factor,
        and, unless the set is whitened, mean and std; pixels as they are, which leave [0, 1] in
        sets that were condensed with method.pixel_box=free or read with synthetic.zca=true
  pt    a dict of two tensors, images (n, c, h, w) and labels: decoded, and normalised by the mean
        and std in the public DC, DSA and DM code, so that its evaluators can use it; by the set's
        own if that code does not have the data set, or if the set is whitened
  dcond an artefact of dcond, as in a run folder; init=file init.path=FILE starts from it

examples:
  dcond export outputs/condense/m3d_digits_ipc1/TIME --to png
  dcond export RUN --to npz --decoded --out digits.npz   unpacked images, if a factor was used
  dcond export res_DC.pt --to png dataset=cifar10        a file of another project
"""


def main(argv: list[str]) -> int:
    """Run ``dcond export`` with its arguments and return the exit code.

    Raises:
        ArtefactError: the set cannot be read, or the output cannot be written.
        ConfigError: the output exists.
        UnsupportedError: the images cannot be stored as PNG files.
    """
    arguments = _parser().parse_intermixed_args(argv)
    log_plainly()
    kind, source = arguments.to, expand_home(arguments.run)
    from dcond.importers.source import path_beside  # torch, which --help does not need

    name = f"export_{kind}{SUFFIXES[kind]}"
    out = expand_home(arguments.out) if arguments.out else path_beside(source, name)
    if out.exists():
        raise ConfigError(
            f"{out} exists and is not overwritten; remove it or choose another --out."
        )
    from dcond.cli.export_formats import WRITERS, read_set
    from dcond.device import is_out_of_memory

    synthetic = read_set(source, arguments.settings)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        note = WRITERS[kind](synthetic, out, arguments.decoded)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        if is_out_of_memory(error):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ArtefactError(
            f"cannot write {out}: {reason}. Free some space or choose another --out."
        ) from error
    print(f"{note} -> {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "export",
        "Write a synthetic set as PNG files, npz, a plain .pt or dcond's own file.",
        EPILOG,
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run folder, a synthetic.safetensors, or a public layout"
    )
    add_settings(
        parser, "for public layouts: dataset=NAME and the options of synthetic in dcond evaluate"
    )
    parser.add_argument("--to", required=True, choices=SUFFIXES, help="the format")
    parser.add_argument("--out", metavar="PATH", help="output; default: RUN/export_FORMAT")
    parser.add_argument(
        "--decoded",
        action="store_true",
        help="split stored images into the smaller ones they hold; always for pt, never for dcond",
    )
    return parser
