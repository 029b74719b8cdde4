import re
from typing import Any

import numpy as np
import pytest

from inference import grpc_service_pb2 as pb
from serving.engines.engine import BFLOAT16, TensorSpec
from serving.errors import EngineError, InvalidRequestError
from serving.oip.codec import Codec
from tests.serving.oip.requests import Input, Output, raw_of, request, spec, typed

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "UINT8": [0, 7, 255],
    "UINT16": [0, 7, 65535],
    "UINT32": [0, 7, 2**32 - 1],
    "UINT64": [0, 7, 2**64 - 1],
    "INT8": [-128, 7, 127],
    "INT16": [-(2**15), 7, 2**15 - 1],
    "INT32": [-(2**31), 7, 2**31 - 1],
    "INT64": [-(2**63), 7, 2**63 - 1],
    "FP16": [-1.5, 0.0, 65504.0],
    "BF16": [-1.5, 0.0, 2.0],
    "FP32": [float("nan"), float("-inf"), 1.5],
    "FP64": [float("nan"), float("inf"), 1e300],
    "BYTES": [b"", b"a\0b", "grün".encode()],
}
RAW_ONLY = ("FP16", "BF16")


def codec(*inputs: TensorSpec, is_batched: bool = True) -> Codec:
    outputs = tuple(TensorSpec(f"{i.name}_out", i.dtype, i.shape) for i in inputs)
    return Codec("m", inputs, outputs, is_batched=is_batched)


def answer(coder: Codec, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Decodes, copies inputs to outputs, encodes."""
    outputs = {f"{name}_out": array for name, array in coder.decode(message).items()}
    response = pb.ModelInferResponse()
    coder.encode(outputs, coder.wanted(message), response, raw=bool(message.raw_input_contents))
    return response


@pytest.mark.parametrize("datatype", VALUES)
def test_raw_contents_come_back_bit_by_bit(datatype: str) -> None:
    raw = raw_of(datatype, VALUES[datatype])
    message = request(Input(name="x", datatype=datatype, shape=[1, 3]), raw=[raw])
    response = answer(codec(spec("x", datatype, -1, 3)), message)
    assert list(response.raw_output_contents) == [raw]
    (tensor,) = response.outputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x_out", datatype, [1, 3])
    assert not tensor.HasField("contents")


@pytest.mark.parametrize("datatype", [name for name in VALUES if name not in RAW_ONLY])
def test_typed_contents_come_back_in_the_field_of_their_datatype(datatype: str) -> None:
    tensor = typed("x", datatype, [3], VALUES[datatype])
    response = answer(codec(spec("x", datatype, -1)), request(tensor))
    assert not response.raw_output_contents
    assert str(response.outputs[0].contents) == str(tensor.contents)


def test_raw_contents_are_views_without_a_copy() -> None:
    x = codec(spec("x", "FP32", -1)).decode(
        request(Input(name="x", datatype="FP32", shape=[2]), raw=[raw_of("FP32", [1, 2])])
    )["x"]
    assert not x.flags.owndata
    assert not x.flags.writeable


@pytest.mark.parametrize("datatype", VALUES)
@pytest.mark.parametrize("shape", [[0, 3], [3, 0]])
def test_a_tensor_without_elements_is_legal_in_both_forms(datatype: str, shape: list[int]) -> None:
    coder = codec(spec("x", datatype, -1, -1))
    tensor = Input(name="x", datatype=datatype, shape=shape)
    assert list(answer(coder, request(tensor)).outputs[0].shape) == shape
    response = answer(coder, request(tensor, raw=[b""]))
    assert (list(response.outputs[0].shape), list(response.raw_output_contents)) == (shape, [b""])


def test_a_scalar_has_no_dimensions_and_one_element() -> None:
    response = answer(codec(spec("x", "FP32")), request(typed("x", "FP32", [], [2.5])))
    assert list(response.outputs[0].shape) == []
    assert list(response.outputs[0].contents.fp32_contents) == [2.5]


def test_elements_are_in_row_major_order() -> None:
    coder = codec(spec("x", "INT32", -1, 2))
    array = coder.decode(request(typed("x", "INT32", [2, 2], [1, 2, 3, 4])))["x"]
    assert array.tolist() == [[1, 2], [3, 4]]
    response = pb.ModelInferResponse()
    coder.encode({"x_out": array.T}, ["x_out"], response, raw=False)
    assert list(response.outputs[0].contents.int_contents) == [1, 3, 2, 4]


def test_inputs_are_taken_in_any_order_and_given_in_the_models() -> None:
    coder = codec(spec("a", "INT64", -1), spec("b", "INT64", -1))
    arrays = coder.decode(request(typed("b", "INT64", [1], [2]), typed("a", "INT64", [1], [1])))
    assert [(name, array.tolist()) for name, array in arrays.items()] == [("a", [1]), ("b", [2])]


def test_outputs_come_as_wanted_or_all_of_them() -> None:
    coder = codec(spec("a", "INT64", -1), spec("b", "INT64", -1))
    inputs = [typed("a", "INT64", [1], [1]), typed("b", "INT64", [1], [2])]
    wanted = request(*inputs, outputs=[Output(name="b_out"), Output(name="a_out")])
    assert [tensor.name for tensor in answer(coder, wanted).outputs] == ["b_out", "a_out"]
    one = request(*inputs, outputs=[Output(name="b_out")])
    assert [tensor.name for tensor in answer(coder, one).outputs] == ["b_out"]
    assert len(answer(coder, request(*inputs)).outputs) == 2


def test_an_answer_with_a_half_precision_output_is_raw_as_a_whole() -> None:
    response = pb.ModelInferResponse()
    outputs = {"a": np.ones(1, np.float32), "b": np.zeros(1, BFLOAT16)}
    codec(spec("x", "FP32", -1)).encode(outputs, ["a", "b"], response, raw=False)
    assert [len(raw) for raw in response.raw_output_contents] == [4, 2]
    assert not any(tensor.HasField("contents") for tensor in response.outputs)


def test_texts_of_an_engine_travel_as_utf8() -> None:
    response = pb.ModelInferResponse()
    coder = codec(spec("x", "FP32", -1))
    coder.encode({"y": np.array(["grün"])}, ["y"], response, raw=False)
    assert list(response.outputs[0].contents.bytes_contents) == ["grün".encode()]


def test_an_output_that_the_protocol_cannot_carry_is_the_engines_fault() -> None:
    with pytest.raises(EngineError, match="output y has elements of type complex64"):
        codec(spec("x", "FP32", -1)).encode(
            {"y": np.zeros(1, np.complex64)}, ["y"], pb.ModelInferResponse(), raw=True
        )


def x(datatype: str = "FP32", shape: tuple[int, ...] = (1, 3), **fields: Any) -> Input:
    return Input(name="x", datatype=datatype, shape=shape, **fields)


def shared_memory() -> Input:
    tensor = x()
    tensor.parameters["shared_memory_region"].string_param = "r"
    return tensor


def classified() -> Output:
    output = Output(name="x_out")
    output.parameters["classification"].int64_param = 3
    return output


GOOD = raw_of("FP32", [1, 2, 3])
RIGHT = typed("x", "FP32", [1, 3], [1, 2, 3])
HUGE = 2**62
IN_INT = pb.InferTensorContents(int_contents=[1, 2, 3])

# What is wrong with a request to m, which takes x FP32 [-1, 3], and the whole text that tells it.
MISTAKES = {
    "no inputs": (request(), "inputs is empty, model m takes x FP32 [-1, 3]"),
    "repeated input": (request(RIGHT, RIGHT), "inputs[x] is given twice, model m takes it once"),
    "unknown input": (
        request(RIGHT, typed("z", "FP32", [1], [1])),
        "inputs[z] is unknown, model m takes x",
    ),
    "other datatype": (
        request(x("INT64"), raw=[GOOD]),
        "inputs[x].datatype is INT64, model m takes FP32",
    ),
    "no datatype": (
        request(x(""), raw=[GOOD]),
        "inputs[x].datatype is empty, model m takes FP32",
    ),
    "other rank": (
        request(x(shape=(3,)), raw=[GOOD]),
        "inputs[x].shape is [3] of rank 1, model m takes rank 2: [-1, 3]",
    ),
    "other dimension": (
        request(x(shape=(1, 4)), raw=[GOOD]),
        "inputs[x].shape is [1, 4], model m takes [-1, 3]",
    ),
    "negative dimension": (
        request(x(shape=(-1, 3)), raw=[GOOD]),
        "inputs[x].shape is [-1, 3], model m takes no dimension below 0",
    ),
    "overflow": (
        request(x(shape=(HUGE, 3)), raw=[GOOD]),
        f"inputs[x].shape is [{HUGE}, 3], model m takes at most 2147483648 bytes",
    ),
    "too few bytes": (
        request(x(), raw=[GOOD[:-4]]),
        "raw_input_contents[0] is 8 bytes, model m takes 12 bytes for x FP32 [1, 3]",
    ),
    "too many bytes": (
        request(x(), raw=[GOOD + b"\0"]),
        "raw_input_contents[0] is 13 bytes, model m takes 12 bytes for x FP32 [1, 3]",
    ),
    "too few raw entries": (
        request(x(), x(), raw=[GOOD]),
        "raw_input_contents is 1 entries, model m was given 2 inputs, each needs one",
    ),
    "too many raw entries": (
        request(x(), raw=[GOOD, GOOD]),
        "raw_input_contents is 2 entries, model m was given 1 inputs, each needs one",
    ),
    "both forms": (
        request(RIGHT, raw=[GOOD]),
        "inputs[x].contents is set beside raw_input_contents, "
        "model m takes either contents or raw_input_contents",
    ),
    "no contents": (
        request(x()),
        "inputs[x].contents.fp32_contents is 0 elements, model m takes 3 for shape [1, 3]",
    ),
    "too few elements": (
        request(typed("x", "FP32", [1, 3], [1, 2])),
        "inputs[x].contents.fp32_contents is 2 elements, model m takes 3 for shape [1, 3]",
    ),
    "other field": (
        request(x(contents=IN_INT)),
        "inputs[x].contents is in int_contents, model m takes FP32 in fp32_contents",
    ),
    "shared memory": (
        request(shared_memory()),
        "inputs[x].parameters[shared_memory_region] is set, "
        "model m takes and gives tensors in messages only",
    ),
    "unknown output": (
        request(RIGHT, outputs=[Output(name="y")]),
        "outputs[y] is unknown, model m gives x_out",
    ),
    "repeated output": (
        request(RIGHT, outputs=[Output(name="x_out"), Output(name="x_out")]),
        "outputs[x_out] is wanted twice, model m gives it once",
    ),
    "classification": (
        request(RIGHT, outputs=[classified()]),
        "outputs[x_out].parameters[classification] is set, model m gives tensors, no classes",
    ),
}


def refusal(coder: Codec, message: pb.ModelInferRequest) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        answer(coder, message)
    return caught.value


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_told_with_model_tensor_expected_and_got(mistake: str) -> None:
    message, text = MISTAKES[mistake]
    assert str(refusal(codec(spec("x", "FP32", -1, 3)), message)) == text


def test_no_two_mistakes_have_the_same_text() -> None:
    assert len({text for _, text in MISTAKES.values()}) == len(MISTAKES)


def test_missing_inputs_are_listed() -> None:
    coder = codec(spec("a", "INT64", -1), spec("b", "INT64", -1), spec("c", "INT64", -1))
    error = refusal(coder, request(typed("b", "INT64", [1], [1])))
    assert str(error) == "inputs is b, model m also needs a, c"


def test_inputs_of_a_batch_need_the_same_number_of_rows() -> None:
    inputs = (typed("a", "INT64", [2], [1, 2]), typed("b", "INT64", [3], [1, 2, 3]))
    specs = (spec("a", "INT64", -1), spec("b", "INT64", -1))
    error = refusal(codec(*specs), request(*inputs))
    assert str(error) == "inputs[b].shape is 3 rows long, model m got 2 rows of a beside it"
    assert answer(codec(*specs, is_batched=False), request(*inputs))


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -32769), ("UINT8", 256)])
def test_narrow_integers_are_held_to_their_range(datatype: str, value: int) -> None:
    error = refusal(codec(spec("x", datatype, -1)), request(typed("x", datatype, [2], [1, value])))
    assert re.fullmatch(
        rf"inputs\[x\].contents.u?int_contents is holding {value}, "
        rf"model m takes {datatype} from -?\d+ to \d+",
        str(error),
    )


@pytest.mark.parametrize("datatype", RAW_ONLY)
@pytest.mark.parametrize("contents", [None, pb.InferTensorContents(fp32_contents=[1])])
def test_half_precision_is_raw_only(datatype: str, contents: Any) -> None:
    tensor = Input(name="x", datatype=datatype, shape=[1], contents=contents)
    error = refusal(codec(spec("x", datatype, -1)), request(tensor))
    assert f"model m takes {datatype} as raw_input_contents only" in str(error)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\1\0\0", "cut off at byte 0"),
        (b"\1\0\0\0a\5\0\0\0abc", "cut off at byte 5"),
        (b"\xff\xff\xff\xff", "cut off at byte 0"),
        (b"\1\0\0\0a", "1 elements, model m takes 2 elements for x BYTES [2]"),
        (b"", "0 elements, model m takes 2 elements for x BYTES [2]"),
    ],
)
def test_broken_framing_of_bytes_is_told_where(raw: bytes, text: str) -> None:
    tensor = Input(name="x", datatype="BYTES", shape=[2])
    error = refusal(codec(spec("x", "BYTES", -1)), request(tensor, raw=[raw]))
    assert text in str(error)


def test_a_raw_boolean_is_0_or_1() -> None:
    tensor = Input(name="x", datatype="BOOL", shape=[2])
    error = refusal(codec(spec("x", "BOOL", -1)), request(tensor, raw=[b"\1\2"]))
    assert "not Boolean, model m takes bytes 0 and 1" in str(error)


@pytest.mark.parametrize("shape", [[2**40, 0], [0, 2**40], [2**31, 2**31]])
def test_an_empty_tensor_cannot_promise_a_huge_one(shape: list[int]) -> None:
    tensor = Input(name="x", datatype="FP32", shape=shape)
    error = refusal(codec(spec("x", "FP32", -1, -1)), request(tensor, raw=[b""]))
    assert "at most 2147483648 bytes" in str(error)


def test_a_violation_names_its_field_for_machines() -> None:
    error = refusal(codec(spec("x", "FP32", -1, 3)), MISTAKES["other rank"][0])
    assert [violation.field for violation in error.violations] == ["inputs[x].shape"]
