"""`fomofeed graph`: mistakes with their lines, and a picture that holds what the file says."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import hypothesis
import pytest
from hypothesis import strategies as st

from services.gateway.drawing.layout import Edge, lay_out
from services.gateway.graph import GRAPHS
from services.gateway.graph_command import main
from tests.gateway.test_gateway_check import SOUND

ANALYZE = str(GRAPHS / "analyze.yaml")
NODES = ("profile", "clip", "moderation", "timing", "ranker", "caption", "notification")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[Edge]]:
    names = [f"n{index}" for index in range(draw(st.integers(1, 12)))]
    pairs = [(a, b) for index, b in enumerate(names) for a in names[:index]]
    return names, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@hypothesis.given(graphs())
def test_edges_lead_to_the_right_and_nothing_lies_upon_another(
    graph: tuple[list[str], list[Edge]],
) -> None:
    names, edges = graph
    layout = lay_out(names, edges)
    points = [*layout.places.values(), *(point for bend in layout.bends.values() for point in bend)]
    assert len(points) == len(set(points))
    for source, target in edges:
        way = [layout.places[source], *layout.bends[(source, target)], layout.places[target]]
        assert all(right[0] - left[0] == 1 for left, right in pairwise(way))
    assert all(0 <= x < layout.layer_count and 0 <= y < layout.row_count for x, y in points)


def test_a_sound_file_is_called_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", ANALYZE]) == 0
    assert capsys.readouterr().out.endswith("analyze is sound, 7 nodes\n")


def test_every_mistake_is_printed_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SOUND.replace("ClipService", "KlipService").replace("hot", "warm"))
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["small.yaml:13", "small.yaml:26"]


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "nowhere.yaml"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err


def test_the_svg_shows_every_node_with_its_deadline_and_its_substitute(tmp_path: Path) -> None:
    out = tmp_path / "analyze.svg"
    assert main(["draw", ANALYZE, "--out", str(out)]) == 0
    root = ElementTree.fromstring(out.read_text())
    texts = ["".join(element.itertext()) for element in root.findall("{*}text")]
    assert set(NODES) < set(texts)
    assert "takes 90 ms, ends by 150 ms" in texts
    assert any(text.startswith("else linear_score (confidence × ") for text in texts)
    assert len(root.findall("{*}path[@class='edge']")) == 20
    boxes = [
        tuple(float(element.attrib[key]) for key in ("x", "y", "width", "height"))
        for element in root.findall("{*}rect")
    ]
    assert len(boxes) == len(NODES) + 2
    assert not any(_overlap(one, other) for one in boxes for other in boxes if one is not other)
    _, _, width, height = (float(value) for value in root.attrib["viewBox"].split())
    assert all(x + w <= width and y + h <= height for x, y, w, h in boxes)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def test_the_mermaid_chart_has_the_same_nodes_and_edges(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["draw", ANALYZE, "--format", "mermaid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" --> " in line for line in lines) == 20
    assert "    n_timing --> n_ranker" in lines
    assert any(line.startswith('    n_ranker["<b>ranker</b>') for line in lines)
