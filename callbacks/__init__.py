"""Thin Lightning callbacks: they write, draw and log what the modules found, and compute no likelihood."""

from callbacks.records import RecordWriter
from callbacks.report import ReportLogger

__all__ = ["RecordWriter", "ReportLogger"]
