import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from services.clip import coco, drawn, faces
from services.clip.analyzer import Analyzer
from services.clip.coco import Detected, Things
from services.clip.config import ClipConfig
from services.clip.faces import Face
from services.clip.preprocess import Details, Preprocessor, centre_square
from services.clip.quality import SHORT_SIDE_PX
from services.clip.signals import ALWAYS, NEVER, UNSURE, Signals, joined
from services.clip.tags import Tag
from serving.media import ImageLimits
from serving.models.artifacts import DEFAULT_REPOSITORY, ArtifactError, open_artifact, publish
from tests.clip.conftest import ReadPhoto

PREPROCESSOR = Preprocessor(ImageLimits(), SHORT_SIDE_PX, centre_square)
CAT = Tag("cat", 0.9, "imagenet")
ANIMAL = Tag("animal", 0.9, "imagenet")


def details_of(content: bytes) -> Callable[[], Awaitable[Details]]:
    """What a `Signals` is given of a picture."""

    async def details() -> Details:
        return PREPROCESSOR.details(content, "image")

    return details


async def unwanted() -> Details:
    raise AssertionError("nobody looks")


def detected(**scores: float) -> Detected:
    names = {words[0]: at for at, words in reversed(list(enumerate(Things.load().words)))}
    found = np.zeros(coco.CLASS_COUNT, np.float32)
    for name, score in scores.items():
        found[names[name]] = score
    return Detected(found, (found > 0.4).astype(np.float32))


def labels(tags: list[Tag]) -> list[str]:
    return [tag.label for tag in tags]


def test_surest_thing_comes_first_and_wider_words_last() -> None:
    things = Things.load()
    assert labels(things.tags(detected(person=0.6, car=0.8))) == [
        "car", "person", "vehicle", "people"
    ]  # fmt: skip
    assert things.tags(detected(dog=0.54)) == []
    assert labels(things.tags(detected(person=0.46))) == ["person", "people"]


def test_one_large_face_is_a_portrait_and_three_are_a_group() -> None:
    assert labels(faces.tags([Face(0.9, 0.3)])) == ["portrait"]
    assert faces.tags([Face(0.9, 0.1)]) == []
    assert faces.tags([Face(0.9, 0.3), Face(0.8, 0.3)]) == []
    assert labels(faces.tags([Face(0.9, 0.1)] * 3)) == ["group"]


def test_boxes_over_each_other_are_one_face() -> None:
    boxes = np.array([[0, 0, 0.4, 0.4], [0.02, 0, 0.42, 0.4], [0.5, 0.5, 0.9, 1]], np.float32)
    scores = np.array([0.7, 0.9, 0.65], np.float32)
    found = faces.found(scores, boxes)
    assert [round(face.score, 2) for face in found] == [0.9, 0.65]
    assert found[1].height == pytest.approx(0.5)
    assert faces.found(np.zeros(3, np.float32), boxes) == []


def test_flat_colours_are_a_drawing_but_noise_and_a_cut_out_product_are_none() -> None:
    drawing = np.zeros((200, 200, 3), np.uint8)
    drawing[:, :100], drawing[:, 100:] = (200, 40, 40), (40, 90, 200)
    noise = np.random.default_rng(1).integers(30, 220, (200, 200, 3), np.uint8)
    product = np.full((200, 200, 3), 255, np.uint8)
    product[60:140, 60:140] = noise[60:140, 60:140]
    assert labels(drawn.tags(drawing)) == ["illustration"]
    assert drawn.tags(noise) == []
    assert drawn.tags(product) == []


def test_dark_strokes_on_bright_paper_are_a_document_also_in_uneven_light() -> None:
    rng = np.random.default_rng(2)
    page = np.linspace(250, 150, 320)[None, :] * np.ones((240, 1)) + rng.normal(0, 3, (240, 320))
    page[20:220:12, 20:300:3] = 30
    page[21:221:12, 20:300:3] = 30
    pixels = np.clip(page, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert labels(drawn.tags(pixels)) == ["document"]


def test_of_a_drawing_the_classifier_says_nothing_and_what_it_knows_is_no_page() -> None:
    drawing, page = Tag("illustration", 0.6, "pixels"), Tag("document", 0.7, "pixels")
    blue = Tag("blue tones", 0.8, "pixels")
    assert joined([CAT], [drawing], [blue]) == [drawing, blue]
    assert joined([CAT], [page], [blue]) == [CAT, blue]
    assert joined([], [page], [blue]) == [page, blue]
    assert joined([Tag("cat", 0.9, "clip")], [drawing], [])[1].source == "clip"


async def test_detector_looks_only_where_the_sight_knows_nothing(photo: ReadPhoto) -> None:
    details = details_of(photo("astronaut.png"))
    async with Signals.open(DEFAULT_REPOSITORY, UNSURE) as signals:
        assert labels(await signals.look(details, [])) == ["portrait", "person", "people"]
        assert await signals.look(unwanted, [CAT]) == [CAT]
    async with Signals.open(DEFAULT_REPOSITORY, ALWAYS) as signals:
        assert "person" in labels(await signals.look(details, [CAT]))


async def test_animals_of_the_classifier_are_not_contradicted(photo: ReadPhoto) -> None:
    details = details_of(photo("quokka.jpg"))
    async with Signals.open(DEFAULT_REPOSITORY, ALWAYS) as signals:
        assert labels(await signals.look(details, [])) == ["bear", "wildlife", "animal"]
        assert await signals.look(details, [CAT, ANIMAL]) == [CAT, ANIMAL]


async def test_absent_signals_are_told_and_nothing_stands_in_for_them(
    photo: ReadPhoto, tmp_path: Path
) -> None:
    details = details_of(photo("astronaut.png"))
    async with Signals.open(tmp_path, UNSURE) as signals:
        assert (signals.names, signals.models) == (["pixels"], [])
        assert await signals.look(details, []) == []
    copied(tmp_path, "centernet")
    async with Signals.open(tmp_path, UNSURE) as signals:
        assert signals.names == ["coco", "pixels"]
        assert labels(await signals.look(details, [])) == ["person", "people"]
    async with Signals.open(DEFAULT_REPOSITORY, NEVER) as signals:
        assert signals.names == ["pixels"]


async def test_altered_signal_stops_the_start(tmp_path: Path) -> None:
    with copied(tmp_path, "centernet").open("r+b") as file:
        file.seek(1000)
        file.write(b"!!")
    with pytest.raises(ArtifactError, match="has SHA-256 digest"):
        async with Signals.open(tmp_path, UNSURE):
            pass


async def test_answer_of_the_analyzer_does_not_depend_on_who_asks_beside(photo: ReadPhoto) -> None:
    contents = [photo(name) for name in ("astronaut.png", "coins.png", "coffee.png", "page.png")]
    async with Analyzer.open(ClipConfig(detect=ALWAYS)) as analyzer:
        alone = [(await analyzer.analyze(content)).tags for content in contents]
        together = await asyncio.gather(*(analyzer.analyze(content) for content in contents))
    assert [labels(answer.tags) for answer in together] == [labels(tags) for tags in alone]


def copied(repository: Path, name: str) -> Path:
    artifact = open_artifact(DEFAULT_REPOSITORY, name)
    manifest = artifact.path.with_name("manifest.yaml")
    return publish(repository, manifest, artifact.path.read_bytes()).path
