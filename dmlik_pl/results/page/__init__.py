"""The report: one page, one Markdown file, dashboards, and what limits the numbers."""
