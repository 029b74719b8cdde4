from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bench.plots import calibration, feeds, hits, order, read_table, week
from simulation.audience import Family
from simulation.feed import draw_feed

SVG = "{http://www.w3.org/2000/svg}"


def test_a_report_is_read_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text("# Title\n\n| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | y |\n\ntext\n| c |\n")
    assert read_table(path) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


def test_pictures_hold_what_the_tables_say() -> None:
    drawn = ElementTree.fromstring(hits())
    assert len(drawn.findall(f".//{SVG}polyline")) > 8  # four lines a family, and the grid
    assert ElementTree.fromstring(feeds()).findall(f".//{SVG}polyline")
    titles = ElementTree.fromstring(week()).findall(f".//{SVG}title")
    assert len(titles) == 168
    assert any((title.text or "").startswith("Tue 19:00") for title in titles)


def test_pictures_of_the_ranker_are_well_formed() -> None:
    feed = draw_feed(np.random.default_rng(1), 20, 20, Family.A)
    told = {
        "actions": feed.knowable_rates,
        "log_value": np.log(feed.knowable_rates.sum(axis=1))[:, None],
    }
    circles = ElementTree.fromstring(calibration(feed, told)).findall(f".//{SVG}circle")
    assert len(circles) == 4 * 10
    ElementTree.fromstring(order({Family.A: (feed, told)}))
