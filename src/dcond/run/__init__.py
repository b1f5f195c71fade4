"""One run on built parts: condensing, evaluating, and the files of a run folder."""
