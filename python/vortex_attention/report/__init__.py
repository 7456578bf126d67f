"""One HTML file without outside resources from the results of a run. See docs/report.md."""

__all__ = ["check_report_path", "write_report"]


def __getattr__(name: str):
    # The page needs plotly, which pictures that are text alone (heat, shares, along) do not.
    if name in __all__:
        from . import page

        return getattr(page, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
