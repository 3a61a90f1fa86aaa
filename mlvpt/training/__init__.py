"""Training: from a configuration to a run folder with a model and its numbers."""
