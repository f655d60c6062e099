"""How long a test waits for what has to happen soon."""

import os


def within(seconds):
    """So many seconds on a machine that has a core for everybody, as much longer as more want one now."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
