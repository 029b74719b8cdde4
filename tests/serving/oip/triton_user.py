"""What somebody with Triton's own client does: run by its own interpreter, see test_tritonclient.

Model `linear` is y = 2 x + 1 over FP32 [-1, 3], `text` copies BYTES [-1, 1].
"""

import sys
from collections.abc import Callable
from queue import Queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def infer_input(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> InferenceServerException:
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        return error
    raise AssertionError("nothing was refused")


def tell(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "2")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server.name == "fomofeed"
    assert "model_repository" in server.extensions
    metadata = client.get_model_metadata("linear", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}]
    config = client.get_model_config("linear").config
    assert config.max_batch_size == 32
    assert list(config.input[0].dims) == [3]


def ask(client: triton.InferenceServerClient) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = client.infer(
        "linear",
        [infer_input("x", x, "FP32")],
        outputs=[triton.InferRequestedOutput("y")],
        request_id="my-id",
        timeout=5_000_000,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * x + 1)
    assert result.get_response().id == "my-id"
    texts = np.array([["grün".encode()], [b"a\0b"]], dtype=object)
    result = client.infer("text", [infer_input("x", texts, "BYTES")])
    assert result.as_numpy("y").tolist() == texts.tolist()


def ask_without_waiting(client: triton.InferenceServerClient) -> None:
    answers: Queue[Any] = Queue()
    x = np.ones((1, 3), np.float32)

    def answered(result: Any, error: Any) -> None:
        answers.put((result, error))

    for _ in range(20):
        client.async_infer("linear", [infer_input("x", x, "FP32")], answered)
    for _ in range(20):
        result, error = answers.get(timeout=10)
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * x + 1)


def mistake(client: triton.InferenceServerClient) -> None:
    wrong = [infer_input("x", np.ones((1, 4), np.float32), "FP32")]
    error = refusal(client.infer, "linear", wrong)
    assert error.status() == "StatusCode.INVALID_ARGUMENT"
    assert "model linear takes [-1, 3]" in error.message()
    assert refusal(client.infer, "nobody", wrong).status() == "StatusCode.NOT_FOUND"
    error = refusal(client.get_inference_statistics, "nobody")
    assert error.status() == "StatusCode.NOT_FOUND"


def manage(client: triton.InferenceServerClient) -> None:
    (stats,) = client.get_inference_statistics("linear").model_stats
    assert stats.inference_stats.success.count >= 21
    client.unload_model("text")
    assert not client.is_model_ready("text")
    states = {model.name: model.state for model in client.get_model_repository_index().models}
    assert states == {"linear": "READY", "text": "UNAVAILABLE"}
    client.load_model("text")
    assert client.is_model_ready("text")
    assert refusal(client.load_model, "nobody").status() == "StatusCode.NOT_FOUND"
    error = refusal(client.load_model, "linear", config="{}")
    assert error.status() == "StatusCode.INVALID_ARGUMENT"


if __name__ == "__main__":
    with triton.InferenceServerClient(sys.argv[1]) as user:
        for step in (tell, ask, ask_without_waiting, mistake, manage):
            step(user)
            print(step.__name__, "done")
