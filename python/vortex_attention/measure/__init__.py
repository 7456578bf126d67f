"""What every measurement shares: statistics and provenance. Knows no model and no engine."""
