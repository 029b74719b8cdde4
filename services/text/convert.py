"""The edge: limits of the requests, and from messages to facts."""

import re
from collections.abc import Iterator, Sequence

from fomofeed.text.v1 import text_service_pb2 as pb
from services.text.captions import CaptionFacts
from services.text.notifications import NotificationFacts
from serving.errors import InvalidRequestError, Violation

MAX_TEXT_CHARS = 2200
MAX_TAGS = 64
MAX_TAG_CHARS = 100
MAX_NAME_CHARS = 100
MIN_CHARS = 20
MAX_NOTIFICATION_CHARS = 500
NOTIFICATION_CHARS = 178  # what phones show of a notification without unfolding it
MAX_LOCALE_CHARS = 35
TONES = ("", "warm", "playful", "plain")

_LOCALE = re.compile(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*\Z")


def caption_facts(request: pb.GenerateCaptionRequest) -> tuple[CaptionFacts, int]:
    """Returns the facts and the length limit; raises `InvalidRequestError`."""
    facts = CaptionFacts.of(
        request.image_tags[:MAX_TAGS],
        request.draft[: MAX_TEXT_CHARS + 1],
        request.hashtags[:MAX_TAGS],
    )
    limit = request.max_chars or MAX_TEXT_CHARS
    _refuse(
        *_long_list("image_tags", request.image_tags),
        *_long_list("hashtags", request.hashtags),
        *_long_text("draft", request.draft, MAX_TEXT_CHARS),
        *_bad_limit(request.max_chars, MAX_TEXT_CHARS),
        *_bad_locale(request.locale),
        *_long_draft(request.draft, facts.draft, limit),
        *([] if request.tone in TONES else [_unknown_tone(request.tone)]),
    )
    return facts, limit


def notification_facts(request: pb.GenerateNotificationRequest) -> tuple[NotificationFacts, int]:
    """Returns the facts and the length limit; raises `InvalidRequestError`."""
    hour = request.optimal_hour if request.HasField("optimal_hour") else None
    score = request.engagement_score if request.HasField("engagement_score") else None
    quality = request.quality_score if request.HasField("quality_score") else None
    _refuse(
        *_long_text("user_name", request.user_name, MAX_NAME_CHARS),
        *_long_text("caption", request.caption, MAX_TEXT_CHARS),
        *_bad_limit(request.max_chars, MAX_NOTIFICATION_CHARS),
        *_bad_locale(request.locale),
        *_outside("optimal_hour", hour, 23),
        *_outside("engagement_score", score, 100),
        *_outside("quality_score", quality, 10),
    )
    facts = NotificationFacts(request.user_name, hour, score, quality, request.caption)
    return facts, request.max_chars or NOTIFICATION_CHARS


def _refuse(*violations: Violation) -> None:
    if violations:
        raise InvalidRequestError(*violations)


def _long_list(field: str, values: Sequence[str]) -> Iterator[Violation]:
    if len(values) > MAX_TAGS:
        yield Violation(field, f"{len(values)} entries", f"at most {MAX_TAGS}")
        return
    for index, value in enumerate(values):
        yield from _long_text(f"{field}[{index}]", value, MAX_TAG_CHARS)


def _long_text(field: str, value: str, limit: int) -> Iterator[Violation]:
    if len(value) > limit:
        yield Violation(field, f"{len(value)} characters", f"at most {limit} characters")


def _long_draft(sent: str, draft: str, limit: int) -> Iterator[Violation]:
    """Normalising may lengthen a draft; one that is too long as sent is reported elsewhere."""
    if len(sent) <= MAX_TEXT_CHARS and 0 < limit < len(draft):
        shown = f"{len(draft)} characters"
        yield Violation("draft", shown, f"at most max_chars, {limit} characters")


def _bad_limit(value: int, most: int) -> Iterator[Violation]:
    if value and not MIN_CHARS <= value <= most:
        yield Violation("max_chars", str(value), f"0 or {MIN_CHARS} to {most}")


def _bad_locale(locale: str) -> Iterator[Violation]:
    if locale and (len(locale) > MAX_LOCALE_CHARS or not _LOCALE.match(locale)):
        yield Violation("locale", repr(locale), 'a BCP 47 tag such as "pt-BR"')


def _outside(field: str, value: float | None, most: int) -> Iterator[Violation]:
    if value is not None and not 0 <= value <= most:  # also true of NaN
        yield Violation(field, f"{value:g}", f"0 to {most}")


def _unknown_tone(tone: str) -> Violation:
    return Violation("tone", repr(tone), "one of warm, playful, plain")
