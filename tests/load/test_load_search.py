import itertools

from hypothesis import given
from hypothesis import strategies as st

from cluster.load.saturation import Search


def run(search: Search, capacity: float, hiccups: frozenset[int] = frozenset()) -> int:
    for step in itertools.count():
        rate = search.next_rate()
        if rate is None:
            return step
        search.tell(rate <= capacity and step not in hiccups)
    raise AssertionError


@given(st.floats(2, 5e5), st.floats(2, 5e5), st.floats(0.01, 0.5))
def test_the_search_ends_within_its_tolerance_below_the_capacity(
    capacity: float, first: float, tolerance: float
) -> None:
    search = Search(first, tolerance, tries=1)
    steps = run(search, capacity)
    assert search.passed <= capacity < search.failed
    assert search.failed <= search.passed * (1 + tolerance) * 1.000001
    assert steps <= 50


@given(st.floats(10, 1e4), st.sets(st.integers(0, 30), max_size=5))
def test_single_hiccups_do_not_move_the_answer(capacity: float, hiccups: set[int]) -> None:
    alone = frozenset(h for h in hiccups if h - 1 not in hiccups)
    search, quiet = Search(100), Search(100)
    run(search, capacity, alone)
    run(quiet, capacity)
    assert search.passed == quiet.passed


def test_a_server_that_never_passes_ends_the_search() -> None:
    search = Search(100)
    run(search, capacity=0)
    assert search.passed == 0


def test_a_server_without_limit_ends_the_search() -> None:
    search = Search(100, highest=1_000)
    run(search, capacity=1e9)
    assert search.passed == 800
