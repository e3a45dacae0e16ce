"""Numbers about numbers: intervals, paired tests, resampling, reliability and calibration.

Whatever is measured with an error is an :class:`~dmlik_pl.stats.estimate.Estimate`.
"""

from dmlik_pl.stats.estimate import Estimate, Interval

__all__ = ["Estimate", "Interval"]
