"""Training: from facts to a model."""
