"""What is wrong with a request, before anything is computed."""

import math
from collections.abc import Iterator

from fomofeed.moderation.v1 import moderation_service_pb2 as pb
from services.moderation.config import ModerationConfig
from serving.errors import InvalidRequestError, Violation


def check(request: pb.ModerateContentRequest, config: ModerationConfig, prefix: str = "") -> None:
    """Raises `InvalidRequestError` that names every bad field, each with `prefix` before it."""
    if violations := list(_violations(request, config, prefix)):
        raise InvalidRequestError(*violations)


def _violations(
    request: pb.ModerateContentRequest, config: ModerationConfig, prefix: str
) -> Iterator[Violation]:
    if not request.image and not any(request.texts):
        yield Violation(f"{prefix}image", "empty without any text", "expected an image or a text")
    if len(request.texts) > config.max_texts:
        count = f"{len(request.texts)} texts"
        yield Violation(f"{prefix}texts", count, f"at most {config.max_texts}")
    for index, text in enumerate(request.texts):
        if len(text) > config.max_text_chars:
            limit = f"at most {config.max_text_chars:,} code points"
            yield Violation(f"{prefix}texts[{index}]", f"{len(text):,} code points", limit)
    if request.HasField("account"):
        yield from _account_violations(request.account, f"{prefix}account")


def _account_violations(account: pb.AccountBehavior, field: str) -> Iterator[Violation]:
    if account.user_id < 0:
        yield Violation(f"{field}.user_id", str(account.user_id), "expected >= 0")
    measures = (
        ("account_age_days", account.account_age_days, math.inf),
        ("posts_per_hour", account.posts_per_hour, math.inf),
        ("links_per_post", account.links_per_post, math.inf),
        ("duplicate_share", account.duplicate_share, 1.0),
    )
    for name, value, highest in measures:
        if not (0 <= value <= highest and math.isfinite(value)):
            limit = "expected a finite number >= 0" if highest == math.inf else "expected 0 to 1"
            yield Violation(f"{field}.{name}", f"{value:g}", limit)
