"""Measurements of solvers and probes beside other packages': ``make bench``."""
