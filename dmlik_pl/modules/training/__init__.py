"""Trainings of the embedded models: each ends as a folder in its library's own layout."""
