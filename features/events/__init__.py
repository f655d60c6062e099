"""Events: plan, sources, cleaning, identity, log."""
