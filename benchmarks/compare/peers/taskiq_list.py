"""taskiq with a Redis list: a job is gone from the store when a worker has it; no results."""

from __future__ import annotations

from adapter import URL, main
from peers.taskiq import Taskiq
from taskiq_redis import ListQueueBroker

# It waits for a job for ever; redis-py, unless told, gives up a read after five seconds, and the worker process ends.
broker = ListQueueBroker(URL, queue_name="bench", socket_timeout=None)
adapter = Taskiq("peers.taskiq_list", broker)
scheduler = adapter.scheduler

if __name__ == "__main__":
    main(adapter)
