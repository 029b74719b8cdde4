"""Settings of the gateway: where the services are, and which graphs it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.gateway.check import TABLES
from services.gateway.graph import GRAPHS
from services.gateway.policies.faults import parse_faults


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Targets are gRPC names: `host:port`, `dns:///name:port`, `ipv4:a:p,b:p`."""

    profile: str = "127.0.0.1:50055"
    clip: str = "127.0.0.1:50051"
    timing: str = "127.0.0.1:50052"
    ranker: str = "127.0.0.1:50053"
    moderation: str = "127.0.0.1:50054"
    text: str = "127.0.0.1:50056"
    targets: str = ""  # of further services: "package.v1.Service=target; ..."
    descriptors: Path | None = None  # descriptor set of services that are not compiled in
    graphs: Path = GRAPHS  # folder of graph files, each *.yaml one graph
    tables: Path = TABLES  # folder of substitute tables
    default_graph: str = "analyze"  # for requests whose `action` is empty
    breaker_failures: int = 5  # in a row, until a node is left alone, >= 1
    breaker_open_s: float = 60.0  # how long it is left alone, > 0
    cache_bytes: int = 64 * 1024 * 1024  # of all remembered answers, >= 0; 0: none are
    faults: str = ""  # to inject, for drills: "node:kind[=value][@share]; ...", see policies/faults
    start_grace_s: float = 10.0  # waits so long for its services before it says SERVING, >= 0

    def __post_init__(self) -> None:
        if self.start_grace_s < 0:
            raise ValueError(f"start_grace_s is {self.start_grace_s}, at least 0")
        if self.cache_bytes < 0:
            raise ValueError(f"cache_bytes is {self.cache_bytes}, at least 0")
        parse_faults(self.faults)
        for entry in self._further():
            if "=" not in entry:
                raise ValueError(f"targets has {entry!r}, expected package.v1.Service=target")

    def target(self, service: str) -> str:
        """Returns the target of a service by its full name; raises `ValueError` if none is set."""
        known = self._known()
        if service not in known:
            raise ValueError(f"no target for {service}: add {service}=HOST:PORT to targets")
        return known[service]

    @property
    def further(self) -> Mapping[str, str]:
        """The targets of services beyond those of this house."""
        entries = (entry.partition("=") for entry in self._further())
        return {name.strip(): target.strip() for name, _, target in entries}

    def _known(self) -> Mapping[str, str]:
        return {
            "fomofeed.profile.v1.ProfileService": self.profile,
            "fomofeed.clip.v1.ClipService": self.clip,
            "fomofeed.timing.v1.TimingService": self.timing,
            "fomofeed.ranker.v1.RankerService": self.ranker,
            "fomofeed.moderation.v1.ModerationService": self.moderation,
            "fomofeed.text.v1.TextService": self.text,
        } | dict(self.further)

    def _further(self) -> list[str]:
        return [entry.strip() for entry in self.targets.split(";") if entry.strip()]
