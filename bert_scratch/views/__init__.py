"""Pages and plots to look at: what commands print and write for people."""
