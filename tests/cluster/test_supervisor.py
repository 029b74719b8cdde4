import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tiny_servers import BROKEN, POLITE, STUBBORN, Words, plan

from cluster.keeper import Event, Kind, RestartConfig, ServerFailedError
from cluster.process import ServerPlan
from cluster.procfs import ProcessId
from cluster.supervisor import Supervisor

SOON = RestartConfig(first_pause_s=0.01, longest_pause_s=0.02)


async def at_once(_: str) -> None:
    """The health check of a server that serves as soon as it runs."""


class Heard:
    """What the supervisor reported."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: Kind) -> list[str]:
        return [event.server for event in self.events if event.kind is kind]


@asynccontextmanager
async def supervised(
    plans: Sequence[ServerPlan], heard: Heard, config: RestartConfig = SOON
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(plans, config, heard, at_once)
    running = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stop.set()
        supervisor.hurry.set()
        await running


async def test_all_servers_start_and_stop_with_the_last_one_first(
    words: Words, tmp_path: Path
) -> None:
    heard = Heard()
    plans = [plan(name, POLITE, words, tmp_path) for name in ("profile", "clip", "gateway")]
    supervisor = Supervisor(plans, SOON, heard, at_once)
    running = asyncio.create_task(supervisor.run())
    await supervisor.all_serving.wait()
    await words.of_all("up", 3)
    supervisor.stop.set()
    first_down, _, _ = await words.next()
    await words.of_all("down", 2)
    await running
    assert first_down == "gateway"
    assert sorted(heard.of(Kind.STOPPED)) == ["clip", "gateway", "profile"]


async def test_a_killed_server_starts_again_and_the_others_live_on(
    words: Words, tmp_path: Path
) -> None:
    heard = Heard()
    plans = [plan(name, POLITE, words, tmp_path) for name in ("clip", "gateway")]
    async with supervised(plans, heard):
        pids = await words.of_all("up", 2)
        os.kill(pids["clip"], signal.SIGKILL)
        name, word, new_pid = await words.next()
        assert (name, word) == ("clip", "up")
        assert new_pid != pids["clip"]
        assert ProcessId.of(pids["gateway"]).is_running()
    ended = next(event for event in heard.events if event.kind is Kind.ENDED)
    assert "SIGKILL" in ended.text
    assert "starts again" in ended.text


async def test_a_server_that_never_served_fails_the_start_with_its_log(
    words: Words, tmp_path: Path
) -> None:
    async def never(_: str) -> None:
        await asyncio.Event().wait()

    heard = Heard()
    plans = [plan("clip", BROKEN, words, tmp_path), plan("gateway", POLITE, words, tmp_path)]
    with pytest.raises(ServerFailedError, match="clip does not start: exit code 1") as failure:
        await Supervisor(plans, SOON, heard, never).run()
    assert failure.value.lines == ("the model is missing",)
    assert heard.of(Kind.STARTED).count("clip") == SOON.start_attempts
    started = [event.process for event in heard.events if event.server == "gateway"]
    assert not any(process.is_running() for process in started)


async def test_a_server_that_does_not_end_is_killed_after_its_grace(
    words: Words, tmp_path: Path
) -> None:
    heard = Heard()
    config = RestartConfig(grace_s=0.05)
    supervisor = Supervisor([plan("clip", STUBBORN, words, tmp_path)], config, heard, at_once)
    running = asyncio.create_task(supervisor.run())
    pids = await words.of_all("up", 1)
    process = ProcessId.of(pids["clip"])
    supervisor.stop.set()
    await running
    assert not process.is_running()
    assert "SIGKILL" in heard.events[-1].text


async def test_a_second_signal_kills_without_waiting_for_the_grace(
    words: Words, tmp_path: Path
) -> None:
    heard = Heard()
    config = RestartConfig(grace_s=3600)
    supervisor = Supervisor([plan("clip", STUBBORN, words, tmp_path)], config, heard, at_once)
    running = asyncio.create_task(supervisor.run())
    await words.of_all("up", 1)
    supervisor.stop.set()
    supervisor.hurry.set()
    await asyncio.wait_for(running, 30)
    assert heard.of(Kind.STOPPED) == ["clip"]


def test_pauses_double_up_to_their_limit() -> None:
    config = RestartConfig(first_pause_s=0.2, factor=2, longest_pause_s=1.0)
    pauses = [config.pause_s(ends) for ends in range(1, 6)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
