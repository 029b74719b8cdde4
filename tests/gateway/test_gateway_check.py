from pathlib import Path

import pytest

from services.gateway.check import load
from services.gateway.descriptors import compiled_in
from services.gateway.graph import GRAPHS, GraphError

POOL = compiled_in()

SOUND = """\
name: small
request: fomofeed.gateway.v1.OrchestrateRequest
response: fomofeed.gateway.v1.OrchestrateResponse
default_timeout_ms: 200
reserve_ms: 10
nodes:
  profile:
    call: fomofeed.profile.v1.ProfileService/GetUserProfile
    fields:
      user_id: request.user_id
    timeout_ms: 40
  clip:
    call: fomofeed.clip.v1.ClipService/AnalyzeImage
    fields:
      image: request.media
      max_tags: 5
    timeout_ms: 90
    substitute: {name: neutral, confidence_factor: 0.5, values: {quality_score: 5.0}}
  timing:
    call: fomofeed.timing.v1.TimingService/SuggestPostingTimes
    fields:
      user_id: request.user_id
      quality_score: clip.quality_score
      posts_by_hour: profile.user.posts_by_hour
    timeout_ms: 40
    retry: hot
    idempotent: true
  caption:
    call: fomofeed.text.v1.TextService/GenerateCaption
    when: request.moderate
    optional: true
    fields:
      image_tags: clip.tags[].label
      hashtags: [request.caption, request.tags]
      tone: "warm"
    timeout_ms: 40
    expect:
      caption: {required: true}
result:
  optimal_time: timing.optimal_hour
  suggested_caption: caption.caption
  confidence: timing.quality_lift.p50
confidence: confidence
"""

# what is written instead of what, the line of the error, what it says
MISTAKES = {
    "unknown_key": ("reserve_ms: 10", "reserv_ms: 10", 5, "unknown key 'reserv_ms'"),
    "unknown_node_key": ("    when: req", "    whem: req", 30, "unknown key 'whem'"),
    "duplicate_node": ("  timing:", "  clip:", 19, "duplicate node 'clip', first on line 12"),
    "no_number": ("timeout_ms: 90", "timeout_ms: soon", 17, "timeout_ms is 'soon'"),
    "no_yaml": ("name: small", "name: [small", 2, "no YAML"),
    "missing_name": ("name: small\n", "", 1, "name is missing"),
    "missing_call": (
        "    call: fomofeed.clip.v1.ClipService/AnalyzeImage\n",
        "",
        12,
        "node clip: call is missing",
    ),
    "missing_timeout": ("    timeout_ms: 90\n", "", 12, "node clip: timeout_ms is missing"),
    "missing_result": ("result:", "results:", 39, "unknown key 'results'"),
    "unknown_request": ("OrchestrateRequest", "Ask", 2, "unknown message"),
    "unknown_service": ("ClipService", "KlipService", 13, "unknown service"),
    "unknown_method": ("AnalyzeImage", "AnalyseImage", 13, "did you mean"),
    "streaming_method": ("GetUserProfile", "IngestEvents", 8, "unknown unary method"),
    "unknown_node": ("clip.quality_score", "clib.quality_score", 23, "did you mean clip?"),
    "unknown_target_field": ("      image:", "      picture:", 15, "unknown field 'picture'"),
    "unknown_source_field": (
        "clip.quality_score",
        "clip.quality",
        23,
        "did you mean quality_score?",
    ),
    "unknown_result_field": ("  optimal_time:", "  best_time:", 40, "unknown field 'best_time'"),
    "no_source": ("request.media", "media", 15, "names no field"),
    "double_is_no_int": ("max_tags: 5", "max_tags: 5.0", 16, "does not fit int32"),
    "int_is_no_double": ("quality_score: 5.0", "quality_score: 5", 18, "write 3.0 for a double"),
    "string_is_no_double": ("clip.quality_score", "request.caption", 23, "is string"),
    "enum_is_no_string": (
        "suggested_caption: caption.caption",
        "suggested_caption: timing.evidence",
        41,
        "is fomofeed.timing.v1.Evidence",
    ),
    "int64_is_no_int32": (
        "optimal_time: timing.optimal_hour",
        "optimal_time: timing.post_count",
        40,
        "is int64, the field is int32",
    ),
    "message_is_no_text": ("clip.tags[].label", "clip.tags", 33, "clip.tags[].label"),
    "repetition_is_needed": ("clip.tags[].label", "clip.tags.label", 33, "write tags[]"),
    "nothing_repeated": (
        "profile.user.posts_by_hour",
        "profile.user[].posts_by_hour",
        24,
        "user is not repeated",
    ),
    "when_is_no_bool": ("when: request.moderate", "when: request.caption", 30, "no bool"),
    "cycle": (
        "      user_id: request.user_id\n    timeout_ms: 40\n  clip",
        "      user_id: timing.post_count\n    timeout_ms: 40\n  clip",
        7,
        "cycle: profile -> timing -> profile",
    ),
    "unreachable": (
        "  suggested_caption: caption.caption\n",
        "",
        28,
        "node caption is unreachable",
    ),
    "behind_optional": (
        "    substitute: {name: neutral, confidence_factor: 0.5, values: {quality_score: 5.0}}",
        "    optional: true",
        19,
        "timing is required but reads clip",
    ),
    "retried_but_not_idempotent": ("    idempotent: true\n", "", 26, "declared idempotent"),
    "unknown_retry": ("retry: hot", "retry: warm", 26, "known: none, hot, background"),
    "cached_but_not_idempotent": (
        "    timeout_ms: 90",
        "    timeout_ms: 90\n    cache_s: 10",
        18,
        "cached but not declared idempotent",
    ),
    "remembered_for_less_than_no_time": (
        "    retry: hot",
        "    retry: hot\n    cache_s: -1",
        27,
        "cache_s is -1",
    ),
    "sent_together_but_not_idempotent": (
        "    timeout_ms: 90",
        "    timeout_ms: 90\n    batch: BatchAnalyzeImages",
        18,
        "sent together with others but not declared idempotent",
    ),
    "unknown_batch_method": (
        "    retry: hot",
        "    retry: hot\n    batch: BatchSuggestPostingTime",
        27,
        "unknown batch method 'BatchSuggestPostingTime'; did you mean BatchSuggestPostingTimes?",
    ),
    "no_batch_of_it": (
        "    retry: hot",
        "    retry: hot\n    batch: RecordPostOutcome",
        27,
        "RecordPostOutcome is no batch of SuggestPostingTimes",
    ),
    "deadline_cannot_be_met": (
        "default_timeout_ms: 200",
        "default_timeout_ms: 130",
        4,
        "takes 140 ms with the reserve",
    ),
    "expected_above_timeout": (
        "    timeout_ms: 90",
        "    timeout_ms: 90\n    expected_ms: 95",
        17,
        "expected to take 95 ms",
    ),
    "factor_missing": ("confidence_factor: 0.5, ", "", 18, "confidence_factor is 0"),
    "factor_above_1": ("confidence_factor: 0.5", "confidence_factor: 1.5", 18, "is 1.5"),
    "substitute_type": ("quality_score: 5.0", 'quality_score: "5"', 18, "does not fit double"),
    "substitute_field": ("{quality_score: 5.0}", "{quality: 5.0}", 18, "unknown field 'quality'"),
    "substitute_reads_what_is_not_before_it": (
        "{quality_score: 5.0}",
        "{quality_score: timing.quality_lift.p50}",
        18,
        "unknown node 'timing'",
    ),
    "substitute_table_missing": (", values: {quality_score: 5.0}", "", 18, "table neutral.yaml"),
    "several_sources_for_an_element": (
        "{quality_score: 5.0}",
        "{'tags[].label': [request.tags, request.tags]}",
        18,
        "2 sources for each element",
    ),
    "expected_field": ("caption: {required", "text: {required", 38, "unknown field 'text'"),
    "size_of_one": ("{required: true}", "{size: 3}", 38, "caption is not repeated"),
    "bounds_of_text": ("{required: true}", "{min: 3}", 38, "no number"),
    "confidence_field": (
        "confidence: confidence\n",
        "confidence: trust\n",
        43,
        "unknown field 'trust'",
    ),
    "node_called_request": ("  caption:\n    call", "  request:\n    call", 28, "no usable name"),
}


def check(folder: Path, text: str) -> str:
    """Returns the mistakes of a graph file with `text`."""
    path = folder / "small.yaml"
    path.write_text(text)
    with pytest.raises(GraphError) as error:
        load(path, POOL, folder)
    return str(error.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_told_with_its_line_and_a_remedy(tmp_path: Path, mistake: str) -> None:
    sound, wrong, line, text = MISTAKES[mistake]
    assert SOUND.count(sound) >= 1
    found = check(tmp_path, SOUND.replace(sound, wrong, 1)).splitlines()
    matching = [one for one in found if text in one]
    assert matching, found
    assert matching[0].startswith(f"small.yaml:{line}: "), matching
    assert "; " in matching[0]


def test_a_sound_graph_has_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SOUND)
    assert [node.name for node in load(path, POOL, tmp_path).graph.nodes] == [
        "profile",
        "clip",
        "timing",
        "caption",
    ]


def test_a_quoted_source_is_recognised(tmp_path: Path) -> None:
    wrong = SOUND.replace('tone: "warm"', 'tone: "request.caption"')
    assert "looks like a source" in check(tmp_path, wrong)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    wrong = SOUND.replace("ClipService", "KlipService").replace("retry: hot", "retry: warm")
    assert len(check(tmp_path, wrong).splitlines()) == 2


def test_a_table_that_does_not_fit_its_node_is_told(tmp_path: Path) -> None:
    (tmp_path / "neutral.yaml").write_text("quality_score: {intercept: 5}\nsharpness: 3\n")
    wrong = SOUND.replace(", values: {quality_score: 5.0}", "")
    assert "table neutral, field sharpness: unknown field" in check(tmp_path, wrong)


def test_measured_factors_are_read_where_the_graph_states_none(tmp_path: Path) -> None:
    (tmp_path / "confidence.yaml").write_text("clip: {loss: 0.6, factor: 0.7}\n")
    path = tmp_path / "small.yaml"
    path.write_text(SOUND.replace("confidence_factor: 0.5, ", ""))
    clip = load(path, POOL, tmp_path).graph.nodes[1]
    assert clip.substitute.confidence_factor == pytest.approx(0.7)


def test_every_graph_that_is_shipped_is_sound() -> None:
    files = sorted(GRAPHS.glob("*.yaml"))
    assert [load(path, POOL).graph.name for path in files] == [path.stem for path in files]


def test_the_graph_of_the_page_is_sound(tmp_path: Path) -> None:
    page = Path("docs/graphs.md").read_text(encoding="utf-8")
    path = tmp_path / "words.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0])
    assert load(path, POOL, tmp_path).graph.name == "words"
