"""A picture as a Mermaid flow chart, for a README."""

from collections.abc import Iterator

from services.gateway.drawing.picture import Box, Picture


def to_mermaid(picture: Picture) -> str:
    """Returns the picture as the text of a Mermaid file."""
    return "\n".join(_lines(picture)) + "\n"


def _lines(picture: Picture) -> Iterator[str]:
    yield "---"
    yield f'title: "{_safe(picture.title)}"'
    yield "---"
    yield "flowchart LR"
    for box in picture.boxes:
        yield f'    n_{box.name}["{_label(box)}"]'
    for source, target in picture.edges:
        yield f"    n_{source} --> n_{target}"
    if optional := [f"n_{box.name}" for box in picture.boxes if box.is_optional]:
        yield "    classDef optional stroke-dasharray: 5 3"
        yield f"    class {','.join(optional)} optional"


def _label(box: Box) -> str:
    texts = [f"<b>{_safe(box.heading)}</b>", *map(_safe, box.lines)]
    texts += [f"<i>{_safe(box.substitute)}</i>"] if box.substitute else []
    return "<br/>".join(texts)


def _safe(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
