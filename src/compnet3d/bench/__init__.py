"""Speed and memory, as ratios of things timed in turn in one process (`compnet3d bench`)."""
