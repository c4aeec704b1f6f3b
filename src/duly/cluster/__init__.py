"""Nodes that know of each other: drivers of membership, a pool that says which node a name belongs to, cron on one of them."""

from duly.cluster.cron import Cron
from duly.cluster.cronjob import Tick
from duly.cluster.local import Group, LocalDriver
from duly.cluster.members import Claim, Driver, Member
from duly.cluster.pool import NodePool

__all__ = ["Claim", "Cron", "Driver", "Group", "LocalDriver", "Member", "NodePool", "Tick"]
