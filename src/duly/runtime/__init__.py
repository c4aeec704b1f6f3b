"""What runs jobs: a worker with its slots, a heartbeat, a ticker; each service is a `tick()` driven by one loop."""
