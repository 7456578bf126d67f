"""One HTML file without outside resources from the results of a run. See docs/report.md."""

from .page import write_report

__all__ = ["write_report"]
