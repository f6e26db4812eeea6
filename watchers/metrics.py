"""Figures of one watcher for Prometheus. Owns names and labels; decides nothing."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from watchers.judge import NodeRecord, NodeState


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
        self._compared = Gauge(
            "cage_reconciled_height", "Block of the last comparison", labels, registry=self.registry
        ).labels(network)
        self._breaks = Gauge(
            "cage_reconciliation_breaks",
            "Breaks that the last comparison found",
            labels,
            registry=self.registry,
        ).labels(network)
        self._compare_seconds = Gauge(
            "cage_reconciliation_seconds",
            "How long the last comparison took",
            labels,
            registry=self.registry,
        ).labels(network)
        self._network = network
        self._node_state = Gauge(
            "cage_watch_node_state",
            "1 for the state that a node is in",
            ("network", "node", "state"),
            registry=self.registry,
        )
        self._node_height = Gauge(
            "cage_watch_node_height", "Tip of a node", ("network", "node"), registry=self.registry
        )
        self._agreeing = Gauge(
            "cage_watch_nodes_agreeing", "Nodes on the agreed tip", labels, registry=self.registry
        ).labels(network)
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

    def compared(self, height: int, *, breaks: int, seconds: float) -> None:
        """Books and chain were compared."""
        self._compared.set(height)
        self._breaks.set(breaks)
        self._compare_seconds.set(seconds)

    def nodes(self, records: Sequence[NodeRecord], *, agreeing: int) -> None:
        """What each node is; labels are host and port (N20)."""
        self._agreeing.set(agreeing)
        for record in records:
            for state in NodeState:
                self._node_state.labels(self._network, record.label, state.value).set(
                    int(state is record.state)
                )
            self._node_height.labels(self._network, record.label).set(record.height or 0)
