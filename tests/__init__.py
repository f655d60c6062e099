"""Tests: laws, oracles, published numbers."""
