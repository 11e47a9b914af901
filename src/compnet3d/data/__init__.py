"""Data sets on disk: reading, checking, cropping and augmenting."""
