"""Training of networks: steps, joint training, schedules; and the optimiser of the images."""
