"""Speed, always paired with full attention in the same process. See docs/bench.md."""
