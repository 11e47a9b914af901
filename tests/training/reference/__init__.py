"""A training step and its schedule as plain loops, to compare the package with."""
