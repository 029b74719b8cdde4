import urllib.error
import urllib.request

import pytest

from serving.rpc.metrics_http import MetricsServer


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(("is_ready", "status"), [(True, 200), (False, 503)])
def test_healthz_says_whether_the_server_serves(is_ready: bool, status: int) -> None:
    with MetricsServer("127.0.0.1", 0, lambda: is_ready) as server:
        assert get(server.port, "/healthz")[0] == status


def test_metrics_are_prometheus_text_and_other_paths_say_what_there_is() -> None:
    with MetricsServer("127.0.0.1", 0, lambda: True) as server:
        status, text = get(server.port, "/metrics")
        assert (status, "fomofeed_rpc_in_flight" in text) == (200, True)
        assert get(server.port, "/") == (404, "try /metrics or /healthz\n")
