"""What each command of `fomofeed` does, once its arguments are read."""

import argparse
import asyncio
import sys
from pathlib import Path

from google.protobuf import json_format
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.analyze import Post, analyze, read_photo
from cluster.detach import Announcer, PipeAnnouncer, start_detached
from cluster.doctor import Verdict, examine
from cluster.down import run_down
from cluster.errors import CommandError
from cluster.forget import forget
from cluster.heatmap import ask_week, print_week, to_svg
from cluster.models import pull, show_cards, verify
from cluster.places import home, run_folder
from cluster.ports import GATEWAY, SERVICES, PortPlan
from cluster.render import draw
from cluster.renew import renew
from cluster.state import read_state
from cluster.status import show_status
from cluster.up import run_up

PIPED_WIDTH = 120  # columns where nobody can tell how many there are
_VERDICT_STYLES = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "red"}


def run(arguments: argparse.Namespace) -> int:
    """Runs one command and returns its exit code. Raises `CommandError` for people."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    commands = {
        "up": _up,
        "down": _down,
        "status": _status,
        "analyze": _analyze,
        "demo": _demo,
        "models": _models,
        "doctor": _doctor,
        "load": _load,
        "timing": _timing,
        "forget": _forget,
    }
    return commands[arguments.command](console, arguments)


class _Lines:
    """Prints what happens to the servers, and the table of their addresses when all serve."""

    def __init__(self, console: Console, ports: PortPlan, advice: str) -> None:
        self._console, self._ports, self._advice = console, ports, advice

    def say(self, server: str, text: str) -> None:
        self._console.print(Text(f"  {server:<11}{text}"))

    def ready(self) -> None:
        table = Table(box=None)
        for heading in ("server", "gRPC", "metrics and /healthz"):
            table.add_column(heading)
        for service in SERVICES:
            metrics = f"http://127.0.0.1:{self._ports.metrics_port(service)}"
            table.add_row(service.name, self._ports.target(service), metrics)
        self._console.print(table)
        self._console.print(self._advice)


def _up(console: Console, arguments: argparse.Namespace) -> int:
    ports, folder = _moved(arguments), run_folder()
    if arguments.report_to is not None:
        return _supervise_for_starter(ports, folder, arguments.report_to)
    if arguments.detach:
        lines = _Lines(console, ports, f"all serve; logs in {folder}; `fomofeed down` stops them")
        start_detached(_port_arguments(arguments), folder, lines)
    else:
        run_up(ports, folder, _Lines(console, ports, f"all serve; logs in {folder}; Ctrl-C stops"))
    return 0


def _supervise_for_starter(ports: PortPlan, folder: Path, pipe: int) -> int:
    announcer = PipeAnnouncer(pipe)
    try:
        run_up(ports, folder, announcer)
    except CommandError as error:
        announcer.fail(str(error))
        return 1
    return 0


def _port_arguments(arguments: argparse.Namespace) -> list[str]:
    base = arguments.port_base
    return [] if base is None else ["--port-base", str(base)]


def _down(console: Console, arguments: argparse.Namespace) -> int:
    run_down(run_folder(), lambda text: console.print(Text(text)))
    return 0


def _status(console: Console, arguments: argparse.Namespace) -> int:
    is_well = show_status(console, _used(arguments), run_folder(), arguments.json)
    return 0 if is_well else 1


def _analyze(console: Console, arguments: argparse.Namespace) -> int:
    _ask(console, arguments, _used(arguments))
    return 0


def _ask(console: Console, arguments: argparse.Namespace, ports: PortPlan) -> None:
    target = arguments.address or ports.target(GATEWAY)
    post = Post(
        photo=arguments.photo,
        user_id=arguments.user,
        caption=arguments.caption,
        tags=tuple(tag for tag in arguments.tags.split(",") if tag),
        content_type=arguments.type,
        locale=arguments.locale,
        has_video=arguments.video,
        moderate=arguments.moderate,
    )
    answer = asyncio.run(analyze(target, post, arguments.timeout))
    if arguments.json:
        print(json_format.MessageToJson(answer.response, preserving_proto_field_name=True))
    else:
        draw(console, answer, post)


def _demo(console: Console, arguments: argparse.Namespace) -> int:
    arguments.photo = arguments.photo or _demo_photo()
    read_photo(arguments.photo)  # before anything is started for one that cannot be sent
    ports, folder = _moved(arguments), run_folder()
    lines: Announcer = _Lines(console, ports, f"all serve; logs in {folder}")
    start_detached(_port_arguments(arguments), folder, lines)
    try:
        _ask(console, arguments, ports)
    finally:
        console.print()
        _down(console, arguments)
    return 0


def _demo_photo() -> Path:
    """The first photograph that `make photos` has written."""
    folder = home() / "photos"
    photos = sorted(path for path in folder.glob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise CommandError(f"no photo given and none in {folder}: `make photos` gets some")
    return photos[0]


def _models(console: Console, arguments: argparse.Namespace) -> int:
    repository = arguments.repository.resolve()
    if arguments.what == "list":
        show_cards(console, repository)
    elif arguments.what == "verify":
        verify(console, repository)
    elif arguments.what == "reload":
        return asyncio.run(_reload(console, _used(arguments)))
    else:
        asyncio.run(pull(repository, lambda who, line: console.print(Text(f"  {who:<11}{line}"))))
    return 0


async def _reload(console: Console, ports: PortPlan) -> int:
    is_well = True
    async for told in renew({service.name: ports.target(service) for service in SERVICES}):
        console.print(Text(f"  {told.server:<11}{told.text}"), soft_wrap=True)
        is_well &= told.is_well
    return 0 if is_well else 1


def _doctor(console: Console, arguments: argparse.Namespace) -> int:
    is_well = True
    for finding in examine(_moved(arguments), home() / "models"):
        is_well &= finding.verdict is not Verdict.BAD
        line = Text(f"  {finding.subject:<26}")
        line.append(f"{finding.verdict:<6}", _VERDICT_STYLES[finding.verdict])
        console.print(line.append(finding.text))
    return 0 if is_well else 1


def _load(console: Console, arguments: argparse.Namespace) -> int:
    from cluster.load.command import run as run_load  # noqa: PLC0415 # NumPy: 0.2 s for no other

    return run_load(console, arguments, lambda: _used(arguments).target(GATEWAY))


def _timing(console: Console, arguments: argparse.Namespace) -> int:
    profile, timing = _stores(arguments)
    week = asyncio.run(ask_week(profile, timing, arguments.user, arguments.timeout))
    print_week(console, week)
    if arguments.svg is not None:
        try:
            arguments.svg.write_text(to_svg(week), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"cannot write {arguments.svg}: {error.strerror}") from None
        console.print(Text(f"wrote {arguments.svg}"))
    return 0


def _forget(console: Console, arguments: argparse.Namespace) -> int:
    profile, timing = _stores(arguments)
    for line in asyncio.run(forget(profile, timing, arguments.user, arguments.timeout)):
        console.print(Text(f"  {line}"))
    return 0


def _stores(arguments: argparse.Namespace) -> tuple[str, str]:
    """The addresses of the two servers that keep something of users."""
    ports = _used(arguments)
    targets = {service.name: ports.target(service) for service in SERVICES}
    return targets["profile"], targets["timing"]


def _moved(arguments: argparse.Namespace) -> PortPlan:
    try:
        return PortPlan.moved(arguments.port_base)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _used(arguments: argparse.Namespace) -> PortPlan:
    """The ports given, or those of the cluster that runs here, or the default ones."""
    state = read_state(run_folder())
    if arguments.port_base is None and state and (state.is_running() or state.orphans()):
        return PortPlan(state.port_base, state.metrics_base)
    return _moved(arguments)
