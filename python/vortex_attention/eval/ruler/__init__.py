"""RULER's 13 tasks (Hsieh et al., 2024, arXiv 2404.06654) at any length. Templates, words and documents are read from published
packages when first used; the generators are ours and give, seed by seed, the texts of the official ones. docs/eval.md names what
differs."""
