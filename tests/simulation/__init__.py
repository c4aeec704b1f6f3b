"""The testing house: virtual time, faults on purpose, whole clusters in one loop, and what users test with."""
