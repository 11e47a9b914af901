"""Speed and memory, as ratios of tasks timed in turn in one process (`compnet3d bench`)."""
