import unicodedata

import hypothesis
import pytest
from hypothesis import strategies as st

from services.text.captions import CaptionFacts, propose
from services.text.config import TEMPLATES
from services.text.hashtags import append, to_hashtag
from services.text.notifications import NotificationFacts, notify, quoted
from services.text.templates import read_templates

WORDS = read_templates(TEMPLATES)
ENGLISH = WORDS.language("en")
LOCALES = ["en", "pt", "es", "de"]
UNKNOWN = NotificationFacts("", None, None, None, "")


def best(labels: list[str], draft: str = "", hashtags: tuple[str, ...] = (), seed: int = 0) -> str:
    facts = CaptionFacts.of(labels, draft, hashtags)
    return propose(facts, ENGLISH, "", 2200, seed)[0].text


@pytest.mark.parametrize("locale", LOCALES)
def test_every_language_can_say_everything(locale: str) -> None:
    language = WORDS.language(locale)
    facts = NotificationFacts("Ana", 19, 78.2, 7.44, "Sunset")
    text = notify(facts, language, 500, 0)
    for known in ("Ana", "78", "Sunset", language.number(7.4, 1), language.time(19)):
        assert known in text
    for labels in ([], ["dog"], ["dog", "sea"]):
        for tone in ("", "warm", "playful", "plain"):
            assert propose(CaptionFacts.of(labels, "", []), language, tone, 2200, 0)


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("pt-BR", "pt"),
        ("pt_BR", "pt"),
        ("DE-at", "de"),
        ("es-419", "es"),
        ("tlh", "en"),
        ("", "en"),
    ],
)
def test_a_locale_falls_back_to_its_language_then_to_english(locale: str, language: str) -> None:
    assert WORDS.language(locale) is WORDS.languages[language]


def test_the_draft_is_kept_word_for_word_and_hashtags_follow_once() -> None:
    text = best(["beach"], "Test caption #ai", ("ai", "#AI", "test"))
    assert text.startswith("Test caption #ai")
    assert text.endswith("\n#test #beach")


def test_candidates_are_different_ordered_and_the_same_for_the_same_seed() -> None:
    facts = CaptionFacts.of(["dog", "sea"], "", ["sun"])
    captions = propose(facts, ENGLISH, "", 2200, 7)
    assert len(captions) == len({caption.text for caption in captions}) >= 3
    scores = [caption.score for caption in captions]
    assert scores == sorted(scores, reverse=True)
    assert captions == propose(facts, ENGLISH, "", 2200, 7)


def test_another_seed_chooses_another_wording() -> None:
    assert len({best(["dog", "sea"], seed=seed) for seed in range(20)}) > 1


def test_tone_chooses_the_wording() -> None:
    facts = CaptionFacts.of(["dog", "sea"], "", [])
    (plain,) = propose(facts, ENGLISH, "plain", 2200, 0)
    assert plain.text.startswith("Dog and sea.")


def test_a_caption_that_says_less_scores_less() -> None:
    facts = CaptionFacts.of(["dog", "sea"], "x" * 15, [])
    whole = propose(facts, ENGLISH, "plain", 2200, 0)[0]
    short = propose(facts, ENGLISH, "plain", 20, 0)[0]
    assert (whole.score, short.score) == (1.0, pytest.approx(2 / 3))
    assert short.text == "x" * 15 + "\n#dog"


@pytest.mark.parametrize(
    ("label", "hashtag"),
    [
        ("golden retriever", "#GoldenRetriever"),
        ("#sun", "#sun"),
        ("t-shirt", "#TShirt"),
        ("café", "#café"),
        ("नमस्ते", "#नमस्ते"),
        ("بحر", "#بحر"),
        ("!!!", ""),
    ],
)
def test_labels_of_every_script_become_hashtags(label: str, hashtag: str) -> None:
    assert to_hashtag(label) == hashtag


def test_hashtags_that_do_not_fit_are_left_out_whole() -> None:
    assert append("text", ["#longer", "#is"], 8) == "text\n#is"


DRAFTS = st.text(min_size=1, max_size=200)
LABELS = st.lists(st.text(min_size=1, max_size=20), max_size=8)


@hypothesis.given(LABELS, DRAFTS, LABELS, st.integers(600, 2200), st.sampled_from(LOCALES))
def test_whatever_is_written_fits_is_normal_and_keeps_the_draft(
    labels: list[str], draft: str, hashtags: list[str], limit: int, locale: str
) -> None:
    facts = CaptionFacts.of(labels, draft, hashtags)
    for caption in propose(facts, WORDS.language(locale), "", limit, 0):
        assert 1 <= len(caption.text) <= limit
        assert facts.draft in caption.text
        assert unicodedata.is_normalized("NFC", caption.text)
        assert 0 <= caption.score <= 1


@hypothesis.given(
    st.builds(
        NotificationFacts,
        user_name=st.text(max_size=100),
        optimal_hour=st.none() | st.integers(0, 23),
        engagement_score=st.none() | st.floats(0, 100),
        quality_score=st.none() | st.floats(0, 10),
        caption=st.text(max_size=300),
    ),
    st.integers(20, 500),
    st.sampled_from(LOCALES),
)
def test_a_notification_fits_and_has_no_turning_characters(
    facts: NotificationFacts, limit: int, locale: str
) -> None:
    text = notify(facts, WORDS.language(locale), limit, 0)
    assert 1 <= len(text) <= limit
    assert not any("\u202a" <= char <= "\u202e" for char in text)
    assert text.count("\u2068") >= text.count("\u2069")


def test_what_is_unknown_is_not_mentioned() -> None:
    text = notify(UNKNOWN, ENGLISH, 178, 0)
    assert not any(char.isdigit() for char in text)


def test_the_long_caption_is_dropped_before_anything_else() -> None:
    facts = NotificationFacts("Ana", 19, 78, 7, "ж" * 300)
    text = notify(facts, ENGLISH, 178, 0)
    assert "ж" not in text
    assert "7 pm" in text


@pytest.mark.parametrize(
    ("hour", "text"), [(0, "12 am"), (1, "1 am"), (12, "12 pm"), (23, "11 pm")]
)
def test_english_hours_are_those_of_the_clock(hour: int, text: str) -> None:
    assert ENGLISH.time(hour) == text


def test_words_from_right_to_left_are_isolated() -> None:
    assert quoted("دانا") == "\u2068دانا\u2069"
    assert quoted("Ana\u202e") == "Ana"
