"""Rules 10 to 21: what ModelInfer takes and gives.

That a request breaks a MUST of the standard binds who sends it. That a server then refuses is
nowhere stated, only that errors are told by a status: such rules are SHOULD.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from inference import grpc_service_pb2 as pb
from serving.oip.conformance.finding import NotApplicableError, require
from serving.oip.conformance.rule import Level, Rule
from serving.oip.conformance.target import Target
from serving.oip.conformance.tensors import KINDS, Metadata, agree, read_outputs

_Output = pb.ModelInferRequest.InferRequestedOutputTensor
_PLAIN_ID, _UNUSUAL_ID = "conformance-42", "an id: ünïcode, 空白 \t and 🙂"
_NARROW = {"INT8": 128, "INT16": 2**15, "UINT8": 256, "UINT16": 2**16}


async def id_is_returned(target: Target) -> None:
    await _returns(target, _PLAIN_ID)


async def unusual_id_is_returned(target: Target) -> None:
    await _returns(target, _UNUSUAL_ID)


async def _returns(target: Target, identifier: str) -> None:
    response = await target.infer(target.request(id=identifier))
    require(response.id == identifier, f"{identifier!r} came back as {response.id!r}")


async def no_outputs_means_all(target: Target) -> None:
    response = await target.infer(target.request())
    names = {output.name for output in response.outputs}
    wanted = {output.name for output in target.model.outputs}
    require(names == wanted, f"answered {sorted(names)} of {sorted(wanted)}")


async def wanted_outputs_alone_are_given(target: Target) -> None:
    for output in target.model.outputs:
        request = target.request(outputs=[_Output(name=output.name)])
        names = [given.name for given in (await target.infer(request)).outputs]
        require(names == [output.name], f"wanted {output.name}, given {names}")


async def shapes_are_the_whole_batchs(target: Target) -> None:
    if not all(tensor.shape[:1] == [-1] for tensor in target.model.inputs):
        raise NotApplicableError(f"{target.model.name} takes no batch dimension")
    outputs = (await target.infer(target.request(rows=2))).outputs
    batched = {tensor.name for tensor in target.model.outputs if tensor.shape[:1] == [-1]}
    for output in outputs:
        shape = list(output.shape)
        if output.name in batched:
            require(shape[:1] == [2], f"2 rows in, output {output.name} of shape {shape}")


async def counts_are_products_of_shapes(target: Target) -> None:
    read_outputs(await target.infer(target.request()))


async def raw_is_taken(target: Target) -> None:
    willing = replace(target, takes_raw=True)
    await willing.infer(willing.request())


async def raw_beside_contents_is_refused(target: Target) -> None:
    request = target.request(raw=False)
    request.raw_input_contents.extend(target.request(raw=True).raw_input_contents)
    await target.refusal("ModelInfer", request)


async def raw_of_another_size_is_refused(target: Target) -> None:
    index, _ = target.input_with(lambda t: KINDS[t.datatype].size, "of a fixed size")
    request = target.request(raw=True)
    request.raw_input_contents[index] += b"\0"
    await target.refusal("ModelInfer", request)


async def half_precision_is_raw_only(target: Target) -> None:
    index, _ = target.input_with(lambda t: not KINDS[t.datatype].field, "FP16 or BF16")
    request = target.request(raw=True)
    count = math.prod(request.inputs[index].shape)
    del request.raw_input_contents[:]
    request.inputs[index].contents.fp32_contents.extend([0.0] * count)
    await target.refusal("ModelInfer", request)


async def typed_fields_are_taken(target: Target) -> None:
    raw = read_outputs(await target.infer(target.request(raw=True)))
    typed = read_outputs(await target.infer(target.request(raw=False)))
    for name, values in raw.items():
        require(agree(values, typed.get(name, [])), f"typed and raw differ in output {name}")


async def wrong_typed_field_is_refused(target: Target) -> None:
    index, tensor = target.input_with(lambda t: KINDS[t.datatype].field, "of a typed field")
    request = target.request(raw=False)
    count = math.prod(request.inputs[index].shape)
    other = "bytes_contents" if tensor.datatype != "BYTES" else "fp32_contents"
    values: Sequence[Any] = [b"0"] * count if other == "bytes_contents" else [0.0] * count
    request.inputs[index].ClearField("contents")
    getattr(request.inputs[index].contents, other).extend(values)
    await target.refusal("ModelInfer", request)


async def narrow_integers_are_checked(target: Target) -> None:
    index, tensor = target.input_with(lambda t: t.datatype in _NARROW, "a narrow integer")
    request = target.request(raw=False)
    getattr(request.inputs[index].contents, KINDS[tensor.datatype].field)[0] = _NARROW[
        tensor.datatype
    ]
    await target.refusal("ModelInfer", request)


async def datatypes_are_those_of_the_metadata(target: Target) -> None:
    response = await target.infer(target.request())
    wanted = {tensor.name: tensor.datatype for tensor in target.model.outputs}
    for output in response.outputs:
        told = f"output {output.name} is {output.datatype}, metadata {wanted.get(output.name)}"
        require(output.datatype == wanted.get(output.name), told)


async def bytes_are_framed(target: Target) -> None:
    def is_bytes(tensor: Metadata) -> bool:
        return tensor.datatype == "BYTES"

    index, _ = target.input_with(is_bytes, "BYTES")
    request = target.request(raw=True)
    read_outputs(await target.infer(request))
    request.raw_input_contents[index] = request.raw_input_contents[index][:-1]
    await target.refusal("ModelInfer", request)


async def answer_names_its_model(target: Target) -> None:
    response = await target.infer(target.request())
    told = f"{target.model.name} was asked, {response.model_name!r} answered"
    require(response.model_name == target.model.name, told)
    require(response.model_version, "the version that answered is not told")
    versions = list(target.model.versions)
    told = f"version {response.model_version} answered, metadata lists {versions}"
    require(not versions or response.model_version in versions, told)


async def answer_has_one_form(target: Target) -> None:
    for response in [await target.infer(request) for request in _both_forms(target)]:
        typed = [output.name for output in response.outputs if output.contents.ListFields()]
        both = bool(response.raw_output_contents) and bool(typed)
        require(not both, f"raw contents and typed ones of {typed}")


async def raw_entries_follow_the_outputs(target: Target) -> None:
    """Each output alone must be what it is among all of them."""
    names = [tensor.name for tensor in target.model.outputs]
    if len(names) < 2:
        raise NotApplicableError(f"{target.model.name} has a single output")
    together = read_outputs(await target.infer(target.request()))
    for name in names:
        alone = read_outputs(await target.infer(target.request(outputs=[_Output(name=name)])))
        same = agree(alone.get(name, []), together.get(name, []))
        require(same, f"output {name} is another alone than among all")


async def answer_has_the_form_of_the_request(target: Target) -> None:
    for request in _both_forms(target):
        response = await target.infer(request)
        is_raw = bool(response.raw_output_contents)
        halves = any(not KINDS[output.datatype].field for output in response.outputs)
        was_raw = bool(request.raw_input_contents)
        told = f"{'raw' if was_raw else 'typed'} request, {'raw' if is_raw else 'typed'} answer"
        require(is_raw == was_raw or halves, told)


def _both_forms(target: Target) -> list[pb.ModelInferRequest]:
    """Returns a raw and a typed request, without the form that there is not."""
    requests = []
    for raw in (True, False):
        with suppress(NotApplicableError):
            requests.append(target.request(raw=raw))
    return requests


async def unknown_parameters_do_no_harm(target: Target) -> None:
    request = target.request()
    request.parameters["x-conformance"].string_param = "ignored"
    await target.infer(request)


async def zero_rows_are_legal(target: Target) -> None:
    if not all(tensor.shape[:1] == [-1] for tensor in target.model.inputs):
        raise NotApplicableError(f"{target.model.name} takes no batch dimension")
    outputs = (await target.infer(target.request(rows=0))).outputs
    sizes = {output.name: math.prod(output.shape) for output in outputs}
    batched = [tensor.name for tensor in target.model.outputs if tensor.shape[:1] == [-1]]
    require(all(sizes.get(name) == 0 for name in batched), f"0 rows in, elements out: {sizes}")


_M, _S = Level.MUST, Level.SHOULD
RULES = (
    Rule("10a", _M, "the id is returned unchanged", id_is_returned),
    Rule("10b", _M, "an id of any text is returned unchanged", unusual_id_is_returned),
    Rule("10c", _M, "no outputs named means all", no_outputs_means_all),
    Rule("10d", _M, "outputs named are given, and no others", wanted_outputs_alone_are_given),
    Rule("11", _M, "shapes are those of the whole batch", shapes_are_the_whole_batchs),
    Rule("12", _M, "elements are as many as the shape says", counts_are_products_of_shapes),
    Rule("13a", _M, "raw contents are taken", raw_is_taken),
    Rule("13b", _S, "raw contents beside typed ones are refused", raw_beside_contents_is_refused),
    Rule("13c", _S, "raw contents of another size are refused", raw_of_another_size_is_refused),
    Rule("14", _S, "FP16 and BF16 are raw only", half_precision_is_raw_only),
    Rule("15a", _M, "typed contents are taken and mean the same", typed_fields_are_taken),
    Rule("15b", _S, "contents in another field are refused", wrong_typed_field_is_refused),
    Rule("15c", _S, "narrow integers are held to their range", narrow_integers_are_checked),
    Rule("16", _M, "datatypes are those of the metadata", datatypes_are_those_of_the_metadata),
    Rule("17", _S, "raw BYTES carry the length of each element", bytes_are_framed),
    Rule("18a", _M, "the answer names model and version", answer_names_its_model),
    Rule("18b", _M, "the answer is raw or typed, never both", answer_has_one_form),
    Rule("18c", _M, "raw contents follow the order of outputs", raw_entries_follow_the_outputs),
    Rule("19", _S, "raw is answered raw, typed typed", answer_has_the_form_of_the_request),
    Rule("20", _S, "unknown parameters do no harm", unknown_parameters_do_no_harm),
    Rule("21", _S, "a dimension of size 0 is legal", zero_rows_are_legal),
)
