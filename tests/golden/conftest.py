from collections.abc import Iterator

import pytest
from running_cluster import RunningCluster, running_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """One cluster for all these tests: each leaves it whole."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
