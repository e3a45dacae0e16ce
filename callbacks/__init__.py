"""The package's callbacks, where a clone of the project has them; they live in :mod:`dmlik_pl.callbacks`."""

from dmlik_pl.callbacks import ExponentialAverage, LikelihoodMonitor, RecordWriter, ReportLogger, Synthesis

__all__ = ["ExponentialAverage", "LikelihoodMonitor", "RecordWriter", "ReportLogger", "Synthesis"]
