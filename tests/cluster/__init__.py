"""Tests of the pool of nodes."""
