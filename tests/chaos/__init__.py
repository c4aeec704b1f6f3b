"""Real processes on real stores under kill -9, SIGSTOP, restarts, cut networks and wrong clocks; see docs/chaos.md."""
