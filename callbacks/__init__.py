"""Thin Lightning callbacks: they write, draw, log and watch what the modules do."""

from callbacks.likelihood_monitor import LikelihoodMonitor
from callbacks.records import RecordWriter
from callbacks.report import ReportLogger
from callbacks.synthesis import Synthesis
from callbacks.weight_average import ExponentialAverage

__all__ = ["ExponentialAverage", "LikelihoodMonitor", "RecordWriter", "ReportLogger", "Synthesis"]
