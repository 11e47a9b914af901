"""Evaluation: the metrics, the one evaluator of every model and baseline, and the harder test sets."""
