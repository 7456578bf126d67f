"""One HTML file without outside resources from the results of a run. See docs/report.md."""

from .page import check_report_path, write_report

__all__ = ["check_report_path", "write_report"]
