"""Distances between real and synthetic batches: pure functions of tensors, all classes at once."""
