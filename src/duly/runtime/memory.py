"""How much memory this process takes."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_bytes() -> int:
    """The memory that this process takes now; where the system does not say, the most it ever took."""
    import resource  # POSIX only

    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
