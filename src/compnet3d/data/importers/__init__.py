"""Data sets of other formats written in our layout: one module for each format, one writer for all."""
