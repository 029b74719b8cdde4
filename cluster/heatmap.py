"""`fomofeed timing plot`: a user's week of 168 hours, in the terminal and as SVG.

The profile server is asked for the history, the timing server what each hour promises; nothing is
computed here.
"""

from dataclasses import dataclass
from html import escape

import grpc
from rich.console import Console
from rich.text import Text

from cluster.errors import CommandError
from cluster.explain import in_words
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.timing.v1 import timing_service_pb2 as pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = 168
_SHADES = " ░▒▓█"  # for eyes and files without colour
_LOW, _HIGH = (238, 243, 246), (11, 94, 140)  # of the colours
_CELL, _LEFT, _TOP = 24, 48, 56
_EVIDENCE = {
    pb.EVIDENCE_POPULATION: "no posts of their own: this is the population's week",
    pb.EVIDENCE_SHRUNK: "few posts of their own: drawn towards the population",
    pb.EVIDENCE_OWN_HISTORY: "their own history",
}


@dataclass(frozen=True, slots=True)
class Week:
    """What each hour of the week promises: p50 by hour, 1 = the average hour; None = no such hour.

    `p10` and `p90` are those of the best hour.
    """

    title: str
    evidence: str
    rates: tuple[float | None, ...]
    best: int
    p10: float
    p90: float
    model: str

    def shade(self, hour: int) -> float | None:
        """Returns where an hour stands between the week's least and best, 0 to 1."""
        rate = self.rates[hour]
        known = [value for value in self.rates if value is not None]
        low, high = min(known), max(known)
        if rate is None:
            return None
        return (rate - low) / (high - low) if high > low else 0.0

    def best_in_words(self) -> str:
        hour = self.best % 24
        return (
            f"best: {DAYS[self.best // 24]} {hour:02}:00, {self.rates[self.best]:.1f} times the "
            f"average hour (80 %: {self.p10:.1f} to {self.p90:.1f})"
        )


async def ask_week(profile: str, timing: str, user_id: int, timeout_s: float) -> Week:
    """Asks both servers, at host:port. Raises `CommandError` in plain words when one fails."""
    user = await _history(profile, user_id, timeout_s)
    request = pb.SuggestPostingTimesRequest(
        user_id=user_id,
        time_zone=user.time_zone,
        posts_by_hour=user.posts_by_hour,
        engagements_by_hour=user.engagements_by_hour,
        max_slots=HOURS,
    )
    async with open_channel(timing, health_service=None) as channel:
        try:
            answer = await pb_grpc.TimingServiceStub(channel).SuggestPostingTimes(
                request, timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise CommandError(in_words(error, timing)) from None
    return week_of(user, answer)


async def _history(target: str, user_id: int, timeout_s: float) -> profile_pb.UserProfile:
    async with open_channel(target, health_service=None) as channel:
        request = profile_pb.GetUserProfileRequest(user_id=user_id)
        try:
            stub = profile_grpc.ProfileServiceStub(channel)
            return (await stub.GetUserProfile(request, timeout=timeout_s)).user
        except grpc.aio.AioRpcError as error:
            raise CommandError(in_words(error, target)) from None


def week_of(user: profile_pb.UserProfile, answer: pb.SuggestPostingTimesResponse) -> Week:
    """Arranges an answer with all slots by the hour of the week."""
    rates: list[float | None] = [None] * HOURS
    for slot in answer.slots:
        rates[slot.hour_of_week] = slot.relative_engagement.p50
    best = answer.slots[0].relative_engagement
    name = user.user_name or f"user {user.user_id}"
    return Week(
        title=f"{name}, {user.time_zone}, {answer.post_count:,} posts",
        evidence=_EVIDENCE.get(answer.evidence, "unknown evidence"),
        rates=tuple(rates),
        best=answer.slots[0].hour_of_week,
        p10=best.p10,
        p90=best.p90,
        model=f"{answer.model.model} {answer.model.version}, {answer.model.trained_on}",
    )


def print_week(console: Console, week: Week) -> None:
    """Prints seven rows of 24 cells, two columns each; the best hour is marked."""
    console.print(Text(week.title, style="bold"))
    console.print(Text(f"{week.evidence}; {week.model}", style="dim"))
    hours = "".join(f"{hour:<6}" for hour in range(0, 24, 3))
    console.print(Text(f"      {hours}"))
    for day, name in enumerate(DAYS):
        line = Text(f"  {name} ")
        for hour in range(24 * day, 24 * day + 24):
            line.append(*_cell(week, hour))
        console.print(line)
    console.print(Text(week.best_in_words()))


def _cell(week: Week, hour: int) -> tuple[str, str]:
    shade = week.shade(hour)
    if shade is None:
        return "··", "dim"
    if hour == week.best:
        return "◆◆", "bold red"
    character = _SHADES[min(len(_SHADES) - 1, int(shade * len(_SHADES)))]
    return character * 2, "rgb({},{},{})".format(*_colour(shade))


def to_svg(week: Week) -> str:
    """Returns the week as an SVG; each cell tells its value when pointed at."""
    width, height = _LEFT + 24 * _CELL + 16, _TOP + 7 * _CELL + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(week.title)}</text>',
        f'<text x="{_LEFT}" y="34" fill="#666">{escape(week.evidence)}</text>',
    ]
    parts.extend(
        f'<text x="{_LEFT + hour * _CELL}" y="{_TOP - 6}">{hour}</text>' for hour in range(0, 24, 3)
    )
    parts.extend(
        f'<text x="8" y="{_TOP + day * _CELL + 16}">{name}</text>' for day, name in enumerate(DAYS)
    )
    best_last = sorted(range(HOURS), key=lambda hour: hour == week.best)  # or they hide its border
    parts.extend(_svg_cell(week, hour) for hour in best_last)
    bottom = _TOP + 7 * _CELL + 18
    parts.append(f'<text x="{_LEFT}" y="{bottom}">{escape(week.best_in_words())}</text>')
    known = [rate for rate in week.rates if rate is not None]
    note = f"1 = the average hour; pale {min(known):.1f}, dark {max(known):.1f}; {week.model}"
    parts.append(f'<text x="{_LEFT}" y="{bottom + 16}" fill="#666">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _svg_cell(week: Week, hour: int) -> str:
    shade, rate = week.shade(hour), week.rates[hour]
    fill = "#fff" if shade is None else "rgb({},{},{})".format(*_colour(shade))
    told = "no such hour in this week" if rate is None else f"{rate:.2f}"
    border = ' stroke="#c0392b" stroke-width="2"' if hour == week.best else ' stroke="#fff"'
    x, y = _LEFT + hour % 24 * _CELL, _TOP + hour // 24 * _CELL
    label = f"{DAYS[hour // 24]} {hour % 24:02}:00: {told}"
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="{fill}"{border}>'
        f"<title>{label}</title></rect>"
    )


def _colour(shade: float) -> tuple[int, ...]:
    pairs = zip(_LOW, _HIGH, strict=True)
    return tuple(round(low + shade * (high - low)) for low, high in pairs)
