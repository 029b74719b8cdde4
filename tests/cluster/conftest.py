from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_servers import Words


@pytest.fixture
def words(tmp_path: Path) -> Iterator[Words]:
    pipe = Words(tmp_path)
    yield pipe
    pipe.close()
