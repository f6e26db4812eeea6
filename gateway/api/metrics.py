"""Prometheus metrics of the API process. Values only; it decides nothing."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """One registry per process, passed down: no global one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cage_api_requests_total",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.duration_seconds = Histogram(
            "cage_api_request_seconds",
            "Time from headers to answer.",
            ("route",),
            buckets=BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.network_healthy = Gauge(
            "cage_network_healthy",
            "1 while the watcher of the network is healthy.",
            ("network",),
            registry=self.registry,
        )
        self.network_lag_blocks = Gauge(
            "cage_network_lag_blocks",
            "Blocks between the node's tip and what is in the books.",
            ("network",),
            registry=self.registry,
        )
        self.withdrawals_open = Gauge(
            "cage_withdrawals_open",
            "Withdrawals that have not ended, by state.",
            ("state",),
            registry=self.registry,
        )
        self.wallet_band = Gauge(
            "cage_wallet_band",
            "1 for where a wallet stands in its band, as it was told last.",
            ("network", "role", "asset", "state"),
            registry=self.registry,
        )
        self.sweeps_open = Gauge(
            "cage_sweeps_open",
            "Sweeps of deposit addresses that are not over, by asset and state.",
            ("asset", "state"),
            registry=self.registry,
        )
        self.alarms_open = Gauge(
            "cage_alarms_open", "Alarms that a person must look at.", registry=self.registry
        )

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
