import hypothesis
import pytest
from hypothesis import strategies as st

from services.text.graphemes import clusters, shorten

FAMILY = "👩‍👩‍👧‍👦"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    "cluster",
    [FAMILY, SCOTLAND, "🇧🇷", "👍🏽", "❤️‍🔥", "e\u0301\u0323", "नि", "각", "각", "\r\n", "1️⃣"],
)
def test_what_people_see_as_one_character_is_one_cluster(cluster: str) -> None:
    assert list(clusters(f"a{cluster}b")) == ["a", cluster, "b"]


def test_flags_are_pairs() -> None:
    assert list(clusters("🇧🇷🇩🇪🇪🇸")) == ["🇧🇷", "🇩🇪", "🇪🇸"]


def test_nothing_is_cut_that_fits() -> None:
    assert shorten("abc", 3) == "abc"


def test_an_emoji_of_seven_code_points_is_kept_or_left_out_whole() -> None:
    text = f"ab{FAMILY}cd"
    kept = [shorten(text, limit) for limit in range(3, 11)]
    assert kept == ["ab…"] * 7 + [f"ab{FAMILY}…"]


@hypothesis.given(st.text(), st.integers(1, 30))
def test_a_shortened_text_fits_and_begins_like_the_whole(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= max(limit, 1)
    assert text.startswith(short.removesuffix("…"))


@hypothesis.given(st.text())
def test_clusters_together_are_the_text(text: str) -> None:
    assert "".join(clusters(text)) == text
