"""`fomofeed models reload` on a whole cluster."""

from tests.golden.running_cluster import RunningCluster


def test_every_server_with_models_says_what_it_serves(cluster: RunningCluster) -> None:
    done = cluster.command("models", "reload")
    assert (done.returncode, done.stderr) == (0, "")
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(told) == {"clip", "moderation", "timing", "ranker"}
    assert told["timing"] == "posting-times 1 as before"
    assert told["ranker"] == "feed-ranker 1 as before"
    assert told["moderation"] == "open-nsfw 1: taken up at its next start alone"
    assert told["clip"].endswith(": taken up at its next start alone")
