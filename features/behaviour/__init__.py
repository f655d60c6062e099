"""Behaviour: histories, kernels, feature families."""
