"""What is wrong with a request about texts: every fault at once, each with field and limit."""

from collections.abc import Sequence

from fomofeed.clip.v1 import clip_service_pb2 as pb
from serving.errors import Violation

MAX_TEXT = 2200  # code points, as a caption
MAX_LABELS, MAX_LABEL = 1000, 200  # number of labels, code points of one
MAX_TEMPLATES, MAX_TEMPLATE = 100, 200
MAX_SENTENCES = 2000  # labels times templates: each costs about a third of a picture


def embedding_violations(inputs: Sequence[pb.EmbedInput], reads_text: bool) -> list[Violation]:
    """Returns what is wrong with the inputs of `Embed`, images not looked at."""
    found = []
    for index, item in enumerate(inputs):
        field, length = f"inputs[{index}]", len(item.text)
        kind = item.WhichOneof("input")
        if kind is None:
            found.append(Violation(field, "empty", "expected text or image"))
        elif kind == "text" and not reads_text:
            limit = "expected an image: no text tower is loaded"
            found.append(Violation(f"{field}.text", "a text", limit))
        elif kind == "text" and not 1 <= length <= MAX_TEXT:
            value = f"{length} code points"
            found.append(Violation(f"{field}.text", value, f"expected 1 to {MAX_TEXT}"))
    return found


def classification_violations(labels: Sequence[str], templates: Sequence[str]) -> list[Violation]:
    """Returns what is wrong with labels and templates of `ClassifyImage`."""
    found = []
    if not 2 <= len(labels) <= MAX_LABELS:
        found.append(Violation("labels", f"{len(labels)} items", f"expected 2 to {MAX_LABELS}"))
    found += _misshapen("labels", labels, MAX_LABEL)
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if first.setdefault(label, index) != index:
            found.append(Violation(f"labels[{index}]", label, f"same as labels[{first[label]}]"))
    if len(templates) > MAX_TEMPLATES:
        limit = f"at most {MAX_TEMPLATES}"
        found.append(Violation("templates", f"{len(templates)} items", limit))
    found += _misshapen("templates", templates, MAX_TEMPLATE)
    for index, template in enumerate(templates):
        if template.count("{}") != 1:
            limit = "expected one {} for the label"
            found.append(Violation(f"templates[{index}]", template, limit))
    if len(labels) * len(templates) > MAX_SENTENCES:
        value = f"{len(labels)} x {len(templates)} sentences"
        found.append(Violation("labels", value, f"at most {MAX_SENTENCES} with the templates"))
    return found


def _misshapen(field: str, texts: Sequence[str], longest: int) -> list[Violation]:
    return [
        Violation(f"{field}[{index}]", f"{len(text)} code points", f"expected 1 to {longest}")
        for index, text in enumerate(texts)
        if not 1 <= len(text) <= longest
    ]
