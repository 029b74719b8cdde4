from pathlib import Path

import numpy as np
import pytest

from services.clip.tags import Vocabulary
from serving.models.artifacts import ArtifactError

NAMES = [f"class {index}" for index in range(1000)]
DOCUMENT = {
    "gate": 0.3,
    "name_gate": 0.6,
    "groups": [
        {"tag": "cat", "also": ["pet", "animal"], "classes": ["0-2"]},
        {"tag": "dog", "also": ["pet", "animal"], "classes": [3, 4]},
        {"tag": "fish", "also": ["animal"], "classes": [5]},
    ],
}


def probabilities(**shares: float) -> np.ndarray:
    rest = np.zeros(1000, np.float32)
    for name, share in shares.items():
        rest[int(name.removeprefix("c"))] = share
    return rest


def labels(vocabulary: Vocabulary, **shares: float) -> dict[str, float]:
    tags = vocabulary.tags(probabilities(**shares))
    assert {tag.source for tag in tags} <= {"imagenet"}
    return {tag.label: pytest.approx(tag.probability) for tag in tags}


def test_group_sums_its_classes_and_wider_words_sum_their_groups() -> None:
    found = labels(Vocabulary(NAMES, DOCUMENT), c0=0.35, c1=0.25, c3=0.2, c5=0.1)
    assert found == {"cat": 0.6, "pet": 0.8, "animal": 0.9}
    assert list(found) == ["cat", "pet", "animal"]


def test_sure_class_adds_its_own_name_second() -> None:
    found = labels(Vocabulary(NAMES, DOCUMENT), c5=0.9)
    assert found == {"fish": 0.9, "class 5": 0.9, "animal": 0.9}
    assert list(found)[1] == "class 5"


@pytest.mark.parametrize(
    "shares",
    [{"c0": 0.2, "c1": 0.2, "c2": 0.2}, {"c999": 0.9}, {"c999": 0.5, "c0": 0.29}, {"c3": 0.29}],
)
def test_nothing_is_said_below_the_gate_or_outside_of_the_groups(shares: dict[str, float]) -> None:
    assert labels(Vocabulary(NAMES, DOCUMENT), **shares) == {}


def test_two_classes_of_one_name_pass_the_gate_together() -> None:
    names = [*NAMES[:1], NAMES[0], *NAMES[2:]]
    assert labels(Vocabulary(names, DOCUMENT), c0=0.2, c1=0.15)["cat"] == 0.35


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"tag": "x", "also": [], "classes": [1000]}, "tag x: a class is unknown"),
        ({"tag": "x", "also": [], "classes": [2]}, "in another group"),
        ({"tag": "x", "also": [], "classes": []}, "tag x: no classes"),
    ],
)
def test_group_with_wrong_classes_or_none_is_refused(
    group: dict[str, object], message: str
) -> None:
    document = {**DOCUMENT, "groups": [*DOCUMENT["groups"], group]}
    with pytest.raises(ArtifactError, match=message):
        Vocabulary(NAMES, document)


@pytest.mark.parametrize("text", ["", "gate: 0.3", "gate: x\nname_gate: 1\ngroups: []", "a: b: c"])
def test_tag_file_that_is_unusable_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"ours\.yaml"):
        Vocabulary.load(path)


def test_shipped_tag_file_knows_common_things_and_leaves_out_catch_alls() -> None:
    vocabulary = Vocabulary.load()
    sure = {at: vocabulary.tags(probabilities(**{f"c{at}": 0.99})) for at in range(1000)}
    firsts = {at: tags[0].label for at, tags in sure.items() if tags}
    assert (firsts[207], firsts[967], firsts[985]) == ("dog", "coffee", "flower")
    assert not {111, 611, 646, 714, 971} & set(firsts)
    assert len(firsts) > 600
