import pytest

from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from services.gateway.fields import ABSENT, compile_getter, compile_setter
from services.gateway.sources import (
    Constant,
    FieldSource,
    Path,
    SourceError,
    parse_path,
    parse_sources,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("request.caption", [FieldSource("request", Path(("caption",)))]),
        ("clip.tags[].label", [FieldSource("clip", Path(("tags", "label"), 0))]),
        ("profile.user.user_id", [FieldSource("profile", Path(("user", "user_id")))]),
        ('"a, \\"b\\""', [Constant('a, "b"')]),
        ("3", [Constant(3)]),
        ("-0.5", [Constant(-0.5)]),
        ("true", [Constant(True)]),
        ("request.a, 2", [FieldSource("request", Path(("a",))), Constant(2)]),
    ],
)
def test_every_form_of_a_source_is_read(text: str, expected: list[object]) -> None:
    assert list(parse_sources(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "caption", "request.", ".a", "a..b", "a.b[].c[].d", "Request.a", "a.b; c", '"open']
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(SourceError):
        parse_sources(text)


def test_sources_are_shown_as_they_are_written() -> None:
    for text in ("request.caption", "clip.tags[].label", '"text"', "3", "0.5", "true"):
        assert str(parse_sources(text)[0]) == text


def test_a_field_in_a_message_that_is_not_there_is_absent() -> None:
    get = compile_getter(profile_pb.GetUserProfileResponse.DESCRIPTOR, parse_path("user.user_name"))
    assert get(profile_pb.GetUserProfileResponse()) is ABSENT
    ana = profile_pb.GetUserProfileResponse(user=profile_pb.UserProfile(user_name="Ana"))
    assert get(ana) == "Ana"


def test_a_field_with_presence_is_absent_until_set_even_to_zero() -> None:
    get = compile_getter(ranker_pb.ScorePostRequest.DESCRIPTOR, parse_path("quality_score"))
    assert get(ranker_pb.ScorePostRequest()) is ABSENT
    assert get(ranker_pb.ScorePostRequest(quality_score=0)) == 0


def test_a_projection_takes_one_field_of_each_element() -> None:
    get = compile_getter(clip_pb.AnalyzeImageResponse.DESCRIPTOR, parse_path("tags[].label"))
    tags = [clip_pb.Tag(label="sea"), clip_pb.Tag(label="sun")]
    assert get(clip_pb.AnalyzeImageResponse(tags=tags)) == ["sea", "sun"]


def test_writing_a_projection_makes_elements_and_a_single_value_goes_into_each() -> None:
    response = clip_pb.AnalyzeImageResponse()
    compile_setter(response.DESCRIPTOR, parse_path("tags[].label"))(response, ["sea", "sun"])
    compile_setter(response.DESCRIPTOR, parse_path("tags[].source"))(response, "author")
    assert [(tag.label, tag.source) for tag in response.tags] == [
        ("sea", "author"),
        ("sun", "author"),
    ]


def test_a_message_is_copied_and_a_list_appended() -> None:
    response = ranker_pb.ScorePostResponse()
    estimate = ranker_pb.ScorePostResponse().reach
    estimate.p50 = 3
    compile_setter(response.DESCRIPTOR, parse_path("reach"))(response, estimate)
    estimate.p50 = 4
    assert response.reach.p50 == 3
    request = ranker_pb.ScorePostRequest(tags=["a"])
    compile_setter(request.DESCRIPTOR, parse_path("tags"))(request, ["b", "c"])
    assert list(request.tags) == ["a", "b", "c"]
