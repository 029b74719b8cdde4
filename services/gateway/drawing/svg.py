"""A picture as SVG, in light and dark: no scripts, no fonts but the reader's own."""

from collections.abc import Iterator
from html import escape

from services.gateway.drawing.layout import Layout, Point, lay_out
from services.gateway.drawing.picture import Box, Picture

_WIDTH, _HEIGHT = 236.0, 112.0  # of a box, px
_GAP_X, _GAP_Y = 64.0, 22.0
_MARGIN, _TOP = 16.0, 44.0
_LINE = 16.0

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 } .name { font-size: 14px; font-weight: 600 }
.box { fill: #f6f8fa; stroke: #57606a } .optional { stroke-dasharray: 5 3 }
.else { fill: #9a6700 } .edge { fill: none; stroke: #8c959f; stroke-width: 1.4 }
.arrow { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .box { fill: #161b22; stroke: #8b949e } .else { fill: #d29922 }
}
"""

_ARROW = (
    '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path class="arrow" d="M0 0L8 4L0 8z"/></marker></defs>'
)


def to_svg(picture: Picture) -> str:
    """Returns the picture as the text of an SVG file."""
    layout = lay_out([box.name for box in picture.boxes], picture.edges)
    width = 2 * _MARGIN + layout.layer_count * (_WIDTH + _GAP_X) - _GAP_X
    height = _TOP + _MARGIN + layout.row_count * (_HEIGHT + _GAP_Y) - _GAP_Y
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img">',
            f"<title>{escape(picture.title)}</title>",
            f"<style>{_STYLE}</style>",
            _ARROW,
            f'<text class="title" x="{_MARGIN:g}" y="26">{escape(picture.title)}</text>',
            *(_edge(layout, source, target) for source, target in picture.edges),
            *(line for box in picture.boxes for line in _box(box, layout.places[box.name])),
            "</svg>\n",
        )
    )


def _corner(place: Point) -> Point:
    return _MARGIN + place[0] * (_WIDTH + _GAP_X), _TOP + place[1] * (_HEIGHT + _GAP_Y)


def _edge(layout: Layout, source: str, target: str) -> str:
    """A smooth line from the right side of one box, past the bends, to the left of another."""
    x, y = _corner(layout.places[source])
    path = f"M{x + _WIDTH:g} {y + _HEIGHT / 2:g}"
    at = (x + _WIDTH, y + _HEIGHT / 2)
    for bend in (*layout.bends[(source, target)], layout.places[target]):
        x, y = _corner(bend)
        into = (x, y + _HEIGHT / 2)
        middle = (at[0] + into[0]) / 2
        path += f"C{middle:g} {at[1]:g} {middle:g} {into[1]:g} {into[0]:g} {into[1]:g}"
        at = into
        if bend is not layout.places[target]:
            path += f"H{x + _WIDTH:g}"
            at = (x + _WIDTH, into[1])
    tip = f"<title>{escape(source)} to {escape(target)}</title>"
    return f'<path class="edge" marker-end="url(#to)" d="{path}">{tip}</path>'


def _box(box: Box, place: Point) -> Iterator[str]:
    x, y = _corner(place)
    kind = "box optional" if box.is_optional else "box"
    size = f'width="{_WIDTH:g}" height="{_HEIGHT:g}" rx="8"'
    yield f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size}/>'
    texts = [(box.heading, "name"), *((line, "") for line in box.lines)]
    texts += [(box.substitute, "else")] if box.substitute else []
    first = y + (_HEIGHT - _LINE * len(texts)) / 2 + 12
    for index, (text, style) in enumerate(texts):
        down = first + index * _LINE
        squeeze = f' textLength="{_WIDTH - 20:g}" lengthAdjust="spacingAndGlyphs"'
        fit = squeeze if len(text) > 38 else ""
        yield f'<text class="{style}" x="{x + 10:g}" y="{down:g}"{fit}>{escape(text)}</text>'
