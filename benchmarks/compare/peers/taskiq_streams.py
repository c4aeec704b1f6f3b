"""taskiq with a Redis stream: jobs are acknowledged when they have run; no results."""

from __future__ import annotations

from adapter import URL, main
from peers.taskiq import Taskiq
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL, queue_name="bench")
adapter = Taskiq("peers.taskiq_streams", broker)
scheduler = adapter.scheduler

if __name__ == "__main__":
    main(adapter)
