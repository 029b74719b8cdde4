"""Are first tags right, and is it silent where it does not know? Writes docs/bench/clip_tags.md.

`python bench/clip_tags.py` analyses every photograph of `services/clip/photos.yaml`, where each has
its label and the package that it lies in. A first tag is the first that says what is in the
picture; tags of colour and light are not counted. Bars, on what was held out while rules were set:
13 of 18 first tags right where one is given, and no animal and no food on people, art, documents,
maps and science. Ten seconds; what is measured does not depend on the machine's load.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench.clip.labelled import RIGHT, SILENT, WRONG, Judged, count, judged
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.photos import photos
from serving.models.packages import fetch
from serving.request import CallFacts, enter

REPORT = Path("docs/bench/clip_tags.md")
LISTS = {
    "photos": "for the demo; looked at while rules were set",
    "labelled": "looked at while rules were set",
    "held_out": "labelled first, measured once afterwards",
}


async def analysed() -> dict[str, list[Judged]]:
    """Analyses all lists with the embedded models."""
    enter(CallFacts())  # a call of our own, without a deadline
    async with Analyzer.open(ClipConfig()) as analyzer:
        results = {}
        for part in LISTS:
            entries = photos(part)
            found = {p.name: (await analyzer.analyze(fetch(p.source))).tags for p in entries}
            results[part] = judged(entries, found)
        return results


def summary(part: str, results: Sequence[Judged]) -> str:
    """One row: how many of what."""
    right, wrong = count(results, RIGHT), count(results, WRONG)
    silent = [result for result in results if result.verdict == SILENT]
    wanted = sum(not result.photo.expect for result in silent)
    kinds = [result for result in results if result.photo.kind]
    misled = sum(result.is_misled for result in kinds)
    return (
        f"| {part}: {LISTS[part]} | {len(results)} | {right} of {right + wrong} | {len(silent)} "
        f"| {wanted} | {misled} of {len(kinds)} |"
    )


def row(result: Judged) -> str:
    """One row: a picture."""
    photo = result.photo
    expected = ", ".join(photo.expect) or "(silence)"
    told = f"{result.first} ({result.source})" if result.first else "–"
    verdict = result.verdict
    if verdict == SILENT:
        verdict = "silent, as it should" if not photo.expect else "silent"
    return f"| {photo.source.package} | {photo.name} | {expected} | {told} | {verdict} |"


def main() -> None:
    results = asyncio.run(analysed())
    lines = [
        "# First tags of labelled photographs",
        "",
        "Photographs and labels: `services/clip/photos.yaml`; the files lie in packages.",
        "",
        "| list | pictures | right of answered | silent | of these rightly | animal or food on "
        "people, art, documents, maps, science |",
        "| --- | --- | --- | --- | --- | --- |",
        *(summary(part, found) for part, found in results.items()),
    ]
    for part, found in results.items():
        lines += ["", f"## {part}", "", "| package | file | right | first tag | verdict |"]
        lines += ["| --- | --- | --- | --- | --- |", *map(row, found)]
    REPORT.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
