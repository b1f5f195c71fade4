"""The one loop: progress, records, checkpoints, signals and the non-finite guard stand here and nowhere else."""
