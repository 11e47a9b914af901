"""A fuzz harness: one target for each reader of files that somebody else may have made."""
