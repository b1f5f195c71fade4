"""Training networks: one step, several networks jointly, schedules; and the optimiser of the images."""
