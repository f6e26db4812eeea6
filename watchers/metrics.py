"""Figures of one watcher for Prometheus. Owns names and labels; decides nothing."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counters and gauges of one network, in a registry of their own."""

    def __init__(self, network: str) -> None:
        self.registry = CollectorRegistry()
        labels = ("network",)
        height = Gauge(
            "cage_watch_height", "Height of the follower", labels, registry=self.registry
        )
        is_healthy = Gauge(
            "cage_watch_is_healthy", "1 while nodes answer", labels, registry=self.registry
        )
        connected = Counter(
            "cage_watch_blocks_connected", "Blocks connected", labels, registry=self.registry
        )
        disconnected = Counter(
            "cage_watch_blocks_disconnected", "Blocks orphaned", labels, registry=self.registry
        )
        self._height = height.labels(network)
        self._is_healthy = is_healthy.labels(network)
        self._connected = connected.labels(network)
        self._disconnected = disconnected.labels(network)

    def connected(self, height: int) -> None:
        """A block was connected."""
        self._connected.inc()
        self._height.set(height)

    def disconnected(self) -> None:
        """A block was disconnected."""
        self._disconnected.inc()

    def healthy(self, *, is_healthy: bool) -> None:
        """What the last look at the nodes gave."""
        self._is_healthy.set(1 if is_healthy else 0)
