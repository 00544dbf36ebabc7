"""What the studies in scripts/ ask, how they measure it, and how their results are kept."""
