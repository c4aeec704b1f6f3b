"""The pure heart: no await, no clock, no randomness, no I/O; time and chance are arguments."""
