"""Studies: many runs that differ in one thing, their measures, and the statistics of them."""
