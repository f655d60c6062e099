"""Chains: a mixture of Markov chains over counts of moves, by expectation and maximisation (Cadez et al. 2003)."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.assigner import Array

MOST_STEPS, ENOUGH = 200, 1e-7
"""Steps at most, and the relative gain of the likelihood below which they end."""


@dataclass(frozen=True)
class Chains:
    """Fitted chains.

    Attributes:
        shares: Shape (k,), of the rows.
        chances: Shape (k, n, n): of moving from a kind to the next; none is 0.
        log_likelihood: Of the rows' moves, given how often each row left each kind.
    """

    shares: Array
    chances: Array
    log_likelihood: float

    @classmethod
    def fit(cls, moves: Array, begun: Array) -> Self:
        """From counts of moves and the rows' first shares of the chains.

        Every chain begins with one departure from each kind as all rows together make it: no chance is 0.

        Args:
            moves: Shape (n_rows, n * n), every kind's moves to every kind.
            begun: Shape (n_rows, k), adding up to 1.
        """
        n = round(moves.shape[1] ** 0.5)
        prior = moves.sum(axis=0).reshape(n, n) + 1.0
        prior /= prior.sum(axis=1, keepdims=True)
        belongs, before = begun, -np.inf
        for _ in range(MOST_STEPS):
            shares = (belongs.sum(axis=0) + 1) / (len(moves) + belongs.shape[1])
            chances = (belongs.T @ moves).reshape(-1, n, n) + prior
            chances /= chances.sum(axis=2, keepdims=True)
            joint = np.log(shares) + moves @ np.log(chances).reshape(len(shares), -1).T
            most = joint.max(axis=1, keepdims=True)
            rows = most[:, 0] + np.log(np.exp(joint - most).sum(axis=1))
            belongs, now = np.exp(joint - rows[:, None]), float(rows.sum())
            if now - before < ENOUGH * abs(now):
                break
            before = now
        return cls(shares, chances, now)

    def bic(self, n_rows: int) -> float:
        """Schwarz's criterion: less is better."""
        k, n, _ = self.chances.shape
        return float((k - 1 + k * n * (n - 1)) * np.log(n_rows) - 2 * self.log_likelihood)
