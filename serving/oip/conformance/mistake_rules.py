"""Rule 22: each mistake of a request is refused, each in words of its own."""

from collections.abc import Callable

import grpc

from inference import grpc_service_pb2 as pb
from serving.oip.conformance.finding import BrokenError, NotApplicableError, require
from serving.oip.conformance.rule import Check, Level, Rule
from serving.oip.conformance.target import Target

_Output = pb.ModelInferRequest.InferRequestedOutputTensor
Spoil = Callable[[Target], pb.ModelInferRequest]
# Codes that say that the server is at fault, or say nothing.
_BLAMELESS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)


def no_inputs(target: Target) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name=target.model.name)


def repeated_input(target: Target) -> pb.ModelInferRequest:
    request = target.request()
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.extend(request.raw_input_contents[:1])
    return request


def unknown_input(target: Target) -> pb.ModelInferRequest:
    request = target.request()
    request.inputs.append(request.inputs[0])
    request.inputs[-1].name = "no-such-input"
    request.raw_input_contents.extend(request.raw_input_contents[:1])
    return request


def missing_input(target: Target) -> pb.ModelInferRequest:
    if len(target.model.inputs) < 2:
        raise NotApplicableError(f"{target.model.name} has a single input")
    request = target.request()
    del request.inputs[0], request.raw_input_contents[:1]
    return request


def other_datatype(target: Target) -> pb.ModelInferRequest:
    request = target.request()
    request.inputs[0].datatype = "INT64" if request.inputs[0].datatype == "FP64" else "FP64"
    return request


def other_rank(target: Target) -> pb.ModelInferRequest:
    request = target.request()
    request.inputs[0].shape.append(1)
    return request


def other_dimension(target: Target) -> pb.ModelInferRequest:
    index, tensor = target.input_with(lambda t: any(s > 0 for s in t.shape), "of a fixed size")
    at = next(at for at, size in enumerate(tensor.shape) if size > 0)
    request = target.request()
    request.inputs[index].shape[at] += 1
    return request


def too_few_bytes(target: Target) -> pb.ModelInferRequest:
    request = target.request(raw=True)
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    return request


def unknown_output(target: Target) -> pb.ModelInferRequest:
    return target.request(outputs=[_Output(name="no-such-output")])


def repeated_output(target: Target) -> pb.ModelInferRequest:
    output = _Output(name=target.model.outputs[0].name)
    return target.request(outputs=[output, output])


def both_forms(target: Target) -> pb.ModelInferRequest:
    request = target.request(raw=False)
    request.raw_input_contents.extend(target.request(raw=True).raw_input_contents)
    return request


def too_few_raw_entries(target: Target) -> pb.ModelInferRequest:
    request = target.request(raw=True)
    if len(request.inputs) == 1:
        request.raw_input_contents.append(request.raw_input_contents[0])
    else:
        del request.raw_input_contents[-1]
    return request


def negative_dimension(target: Target) -> pb.ModelInferRequest:
    index, _ = target.input_with(lambda t: t.shape, "of a rank above 0")
    request = target.request()
    request.inputs[index].shape[0] = -1
    return request


def overflow(target: Target) -> pb.ModelInferRequest:
    index, tensor = target.input_with(lambda t: -1 in t.shape, "of a free dimension")
    request = target.request()
    request.inputs[index].shape[list(tensor.shape).index(-1)] = 2**62
    return request


MISTAKES: tuple[tuple[str, str, Spoil], ...] = (
    ("22a", "no inputs", no_inputs),
    ("22b", "an input given twice", repeated_input),
    ("22c", "an unknown input", unknown_input),
    ("22d", "a missing input", missing_input),
    ("22e", "another datatype", other_datatype),
    ("22f", "another rank", other_rank),
    ("22g", "another fixed dimension", other_dimension),
    ("22h", "too few bytes", too_few_bytes),
    ("22i", "an unknown output", unknown_output),
    ("22j", "an output wanted twice", repeated_output),
    ("22k", "raw and typed contents at once", both_forms),
    ("22l", "raw entries that are not one an input", too_few_raw_entries),
    ("22m", "a negative dimension", negative_dimension),
    ("22n", "dimensions whose product overflows", overflow),
)


def _refused(spoil: Spoil) -> Check:
    async def check(target: Target) -> None:
        error = await target.refusal("ModelInfer", spoil(target))
        told = f"refused as {error.code().name} {error.details() or 'without a word'}"
        require(error.code() not in _BLAMELESS, told)
        require(error.details(), told)
        await target.infer(target.request())  # and goes on answering

    return check


async def _texts(target: Target) -> dict[str, str]:
    """Returns what is said of each mistake that is refused."""
    texts = {}
    for number, _, spoil in MISTAKES:
        try:
            texts[number] = (await target.refusal("ModelInfer", spoil(target))).details() or ""
        except (NotApplicableError, BrokenError):
            continue
    return texts


async def texts_differ(target: Target) -> None:
    numbers: dict[str, list[str]] = {}
    for number, text in (await _texts(target)).items():
        numbers.setdefault(text, []).append(number)
    same = {text: found for text, found in numbers.items() if len(found) > 1}
    require(not same, "; ".join(f"{' and '.join(n)} say {text!r}" for text, n in same.items()))


async def texts_name_the_model(target: Target) -> None:
    texts = await _texts(target)
    silent = [number for number, text in texts.items() if target.model.name not in text]
    require(not silent, f"{', '.join(silent)} do not name {target.model.name}")


RULES = (
    *(
        Rule(number, Level.SHOULD, f"refused: {title}", _refused(spoil))
        for number, title, spoil in MISTAKES
    ),
    Rule("22o", Level.SHOULD, "each mistake has words of its own", texts_differ),
    Rule("22p", Level.SHOULD, "each mistake is told with the model's name", texts_name_the_model),
)
