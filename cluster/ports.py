"""The one table of the servers and their ports, in the order in which they start.

The gateway is last up and first down, so that it never calls a server that has not begun or has
already gone. A port base moves the whole cluster: tests and a second copy use free ports with it.
"""

from dataclasses import dataclass

HOST = "127.0.0.1"
DEFAULT_BASE = 50050
DEFAULT_METRICS_BASE = 9050
METRICS_ABOVE = 50  # without a base of their own, metrics ports lie this far above a moved base


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of server: a module to run and its place in the port plan."""

    name: str
    rpc_service: str  # full gRPC name; also the name its health is asked by
    offset: int  # added to the port base, and to the base of the metrics ports

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return f"services.{self.name}"


SERVICES = (
    Service("profile", "fomofeed.profile.v1.ProfileService", 5),
    Service("clip", "fomofeed.clip.v1.ClipService", 1),
    Service("moderation", "fomofeed.moderation.v1.ModerationService", 4),
    Service("timing", "fomofeed.timing.v1.TimingService", 2),
    Service("ranker", "fomofeed.ranker.v1.RankerService", 3),
    Service("text", "fomofeed.text.v1.TextService", 6),
    Service("gateway", "fomofeed.gateway.v1.OrchestratorService", 0),
)
GATEWAY = SERVICES[-1]


@dataclass(frozen=True, slots=True)
class PortPlan:
    """Where each server listens: `base` + its offset for gRPC, `metrics_base` + it for HTTP."""

    base: int = DEFAULT_BASE
    metrics_base: int = DEFAULT_METRICS_BASE

    @classmethod
    def moved(cls, base: int | None) -> "PortPlan":
        """The default ports, or those above `base`, 1024 … 65400. Raises `ValueError`."""
        if base is None:
            return cls()
        if not 1024 <= base <= 65400:
            raise ValueError(f"port base is {base}, expected 1024 to 65400")
        return cls(base, base + METRICS_ABOVE)

    def port(self, service: Service) -> int:
        return self.base + service.offset

    def metrics_port(self, service: Service) -> int:
        return self.metrics_base + service.offset

    def target(self, service: Service) -> str:
        """What a gRPC client dials."""
        return f"{HOST}:{self.port(service)}"
