"""Accuracy, always paired with full attention on the same items. See docs/eval.md."""
