"""An answer is sound when its numbers are, whatever their sum is."""

import math

import pytest

from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from services.gateway.answers import compile_check

MOST = 1.7e308
check = compile_check(profile_pb.GetUserProfileResponse.DESCRIPTOR, {})


def answer(*hours: float) -> profile_pb.GetUserProfileResponse:
    user = profile_pb.UserProfile(user_id=1, posts_by_hour=hours)
    return profile_pb.GetUserProfileResponse(user=user)


@pytest.mark.parametrize("hours", [(), (0.0,), (MOST, MOST), (-MOST, -MOST, MOST)])
def test_finite_numbers_are_sound_even_if_their_sum_is_not(hours: tuple[float, ...]) -> None:
    assert check(answer(*hours)) == ""


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_named_by_its_path(bad: float) -> None:
    assert check(answer(1.0, bad, 2.0)) == "user.posts_by_hour is not finite"


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert check(answer(math.inf, -math.inf)) == "user.posts_by_hour is not finite"
