"""What is counted in a caption, whatever the text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.form import Form, form_of

LINKS = st.sampled_from(
    [
        *("https://a.example/b", "HTTP://A.EXAMPLE", "https://münchen.example/ä?q=@b"),
        *("www.example.de", "youtu.be/x1", "example.com", "sub.example.org/@name"),
    ]
)
MENTIONS = st.sampled_from(["@ana", "@Ana_1", "＠名前", "@משתמש", ".@ana", "(@ana)"])
WORDS = st.sampled_from(
    [
        *("hello", "e.g.", "and/or", "1.5/2", "great.It", "😀", "👩‍👩‍👧", "שלום", "a@b.example"),
        *("@", "@@ana", "https://", "www.", "U.S.A.", "#tag", "...", "\u200f"),
    ]
)


@given(
    st.lists(
        st.one_of(
            LINKS.map(lambda text: (text, 1, 0)),
            MENTIONS.map(lambda text: (text, 0, 1)),
            WORDS.map(lambda text: (text, 0, 0)),
        )
    ),
    st.sampled_from([" ", "\n", "\u00a0", "  "]),
)
def test_links_and_mentions_are_counted_wherever_they_stand(
    parts: list[tuple[str, int, int]], gap: str
) -> None:
    found = form_of(gap.join(text for text, _, _ in parts))
    assert found.link_count == sum(links for _, links, _ in parts)
    assert found.mention_count == sum(mentions for _, _, mentions in parts)


@given(st.text(max_size=300))
def test_any_text_has_a_form_within_its_bounds(text: str) -> None:
    found = form_of(text)
    assert 0 <= found.link_count + found.mention_count <= len(text)
    assert 0.0 <= found.caps_share <= 1.0


@given(st.text(alphabet=st.characters(categories=["L", "N", "Zs"]), max_size=100))
def test_shouting_is_the_share_of_capitals_among_letters_that_have_case(text: str) -> None:
    capital, small = (sum(map(is_so, text)) for is_so in (str.isupper, str.islower))
    expected = capital / (capital + small) if capital else 0.0
    assert form_of(text).caps_share == expected


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", Form(0, 0, 0.0)),
        ("LOOK https://t.example/ABC @BOB", Form(1, 1, 1.0)),
        ("see https://a.example,https://b.example", Form(1, 0, 0.0)),
        ("(https://a.example) <https://b.example>", Form(2, 0, 0.0)),
        ("写真 example.com/写真", Form(1, 0, 0.0)),
        ("mail Ana@example.com", Form(0, 0, 1 / 17)),
        ("Привет @ana", Form(0, 1, 1 / 6)),
    ],
)
def test_forms_of_real_looking_captions(text: str, form: Form) -> None:
    assert form_of(text) == form


@pytest.mark.parametrize(
    "part", ["a", "a.", "@", "a@", "https://", "www.", "a.b ", "a-", "😀", "x.y/"]
)
def test_time_grows_with_the_length_and_no_faster(part: str) -> None:
    def cost(length: int) -> float:
        text = (part * length)[:length]
        times = []
        for _ in range(3):
            start = time.process_time()
            form_of(text)
            times.append(time.process_time() - start)
        return min(times)

    assert cost(200_000) < 60 * cost(10_000) + 0.05  # 20 times as long; quadratic: 400 times
    assert form_of((part * 1_000_000)[:1_000_000]).caps_share == 0.0
