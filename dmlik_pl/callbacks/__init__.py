"""Thin Lightning callbacks: they write, draw, log and watch what the modules do."""

from dmlik_pl.callbacks.likelihood_monitor import LikelihoodMonitor
from dmlik_pl.callbacks.records import RecordWriter
from dmlik_pl.callbacks.report import ReportLogger
from dmlik_pl.callbacks.synthesis import Synthesis
from dmlik_pl.callbacks.weight_average import ExponentialAverage

__all__ = ["ExponentialAverage", "LikelihoodMonitor", "RecordWriter", "ReportLogger", "Synthesis"]
