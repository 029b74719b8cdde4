"""`fomofeed models`: fills, lists and verifies the repository of model artifacts.

Each service knows how its own artifacts are made (`python -m services.<service>.build`); here
they are only run, two at a time, since one mostly waits for a download while another computes.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.errors import CommandError
from cluster.places import project_root
from serving.models.artifacts import ArtifactError, Manifest, manifests_in, open_artifact

PARALLEL_BUILDS = 2


def buildable_services() -> list[str]:
    """Names of the services that have artifacts to build; looks at files, imports nothing."""
    folder = Path(__file__).resolve().parents[1] / "services"
    return sorted(path.parent.name for path in folder.glob("*/build.py"))


async def pull(repository: Path, say: Callable[[str, str], None]) -> None:
    """Builds what is missing. Raises `CommandError` with all that a failed build has said."""
    turn = asyncio.Semaphore(PARALLEL_BUILDS)
    outcomes = await asyncio.gather(
        *(_build(service, repository, say, turn) for service in buildable_services())
    )
    failures = [failure for failure in outcomes if failure]
    if failures:
        raise CommandError("\n".join(failures))


async def _build(
    service: str, repository: Path, say: Callable[[str, str], None], turn: asyncio.Semaphore
) -> str:
    """Runs one build; returns why it failed, or nothing."""
    async with turn:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"services.{service}.build", "--repository", str(repository)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=project_root(),
        )
        assert process.stdout is not None
        lines = []
        try:
            async for line in process.stdout:
                lines.append(line.decode(errors="replace").rstrip())
                say(service, lines[-1])
            code = await process.wait()
        finally:
            if process.returncode is None:  # interrupted
                process.kill()
    return "" if code == 0 else f"{service}: build failed (exit code {code})"


def known_manifests() -> list[Manifest]:
    """The manifests of this checkout, by path: what `pull` will make."""
    folder = Path(__file__).resolve().parents[1] / "services"
    return [Manifest.read(path) for path in sorted(folder.glob("*/manifests/*.yaml"))]


def show_cards(console: Console, repository: Path) -> None:
    """Prints a card for each model: what it is, what it learned from, what was measured."""
    here = {(manifest.name, manifest.version): manifest for manifest in manifests_in(repository)}
    known = {(manifest.name, manifest.version): manifest for manifest in known_manifests()}
    for key, manifest in sorted((known | here).items()):
        console.print(_card(manifest, key in here))
    if not known | here:
        console.print("no models are known here")


def _card(manifest: Manifest, is_here: bool) -> Table:
    kind = "experimental" if manifest.experimental else "measured"
    card = Table(box=None, show_header=False, padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    card.title = Text(f"\n{manifest.name} {manifest.version}", style="bold")
    card.title_justify = "left"
    card.add_row("state", "here" if is_here else "missing: `fomofeed models pull`")
    card.add_row("kind", kind)
    card.add_row("trained on", Text(manifest.trained_on))
    card.add_row("measured", Text(manifest.metric))
    card.add_row(
        "source", Text(", ".join(dict.fromkeys(source.origin for source in manifest.sources)))
    )
    card.add_row("licence", Text(manifest.license))
    card.add_row("SHA-256", manifest.sha256)
    return card


def verify(console: Console, repository: Path) -> None:
    """Hashes every artifact again. Raises `CommandError` when one is not what it should be."""
    wrong = 0
    for manifest in manifests_in(repository):
        label = f"{manifest.name} {manifest.version}"
        try:
            open_artifact(repository, manifest.name, manifest.version)
            console.print(f"  {label}: as its manifest promises")
        except ArtifactError as error:
            wrong += 1
            console.print(Text(f"  {label}: {error}", style="red"))
    if wrong:
        raise CommandError(f"{wrong} artifacts are not what their manifests promise")
