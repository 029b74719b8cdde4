from dataclasses import dataclass
from pathlib import Path

import pytest

from serving import settings
from serving.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Limits:
    rows: int = 32  # >= 1
    share: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}, >= 1")


@dataclass(frozen=True, slots=True)
class Places:
    folder: Path = Path("models")
    is_eager: bool = False


def test_defaults_stand_when_nothing_is_set() -> None:
    assert settings.load("clip", Limits, Places, environ={"PATH": "/bin"}) == (Limits(), Places())


def test_variables_fill_every_type() -> None:
    environ = {
        "FOMOFEED_CLIP_ROWS": "8",
        "FOMOFEED_CLIP_SHARE": "0.5",
        "FOMOFEED_CLIP_NAMES": "a, b",
        "FOMOFEED_CLIP_FOLDER": "/data",
        "FOMOFEED_CLIP_IS_EAGER": "true",
    }
    limits, places = settings.load("clip", Limits, Places, environ=environ)
    assert limits == Limits(8, 0.5, ("a", "b"))
    assert places == Places(Path("/data"), True)


def test_an_empty_optional_is_none() -> None:
    assert settings.load("clip", Limits, environ={"FOMOFEED_CLIP_SHARE": ""})[0].share is None


def test_other_services_variables_are_not_ours() -> None:
    assert settings.load("clip", Limits, environ={"FOMOFEED_TIMING_ROWS": "x"}) == (Limits(),)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "FOMOFEED_CLIP_ROW",
            "8",
            "unknown setting FOMOFEED_CLIP_ROW; known: .*FOMOFEED_CLIP_ROWS",
        ),
        ("FOMOFEED_CLIP_ROWS", "many", "FOMOFEED_CLIP_ROWS is 'many', expected int"),
        ("FOMOFEED_CLIP_ROWS", "0", "rows is 0, >= 1"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    variable: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.load("clip", Limits, environ={variable: value})
