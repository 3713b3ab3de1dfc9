"""Whether anybody works. The process that does is started by the composition root."""

from datetime import timedelta

from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateWorker

from governance.times import hurried

HEARTBEAT = hurried(5.0)  # seconds between two signs of life of a worker
STALLED = hurried(20.0)  # seconds without one, after which a worker counts as dead


def worker_alive() -> bool:
    """A worker gave a sign of life within the last STALLED seconds, by the database's clock."""
    return ProcrastinateWorker.objects.filter(last_heartbeat__gt=Now() - timedelta(seconds=STALLED)).exists()
