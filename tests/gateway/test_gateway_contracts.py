"""Services that nobody here was compiled with: from a file, or by asking them."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection

from services.gateway.__main__ import contracts, load_plans
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.contracts import ContractError, add_descriptor_set
from services.gateway.descriptors import find_method
from services.gateway.servicer import OrchestratorServicer
from serving.settings import SettingsError
from tests.gateway.conftest import a_post

NAMER = "foreign.v1.Namer"
GRAPH = """\
name: names
request: fomofeed.gateway.v1.OrchestrateRequest
response: fomofeed.gateway.v1.OrchestrateResponse
default_timeout_ms: 5000
nodes:
  namer:
    call: foreign.v1.Namer/Name
    fields: {text: request.caption}
    timeout_ms: 4000
result:
  suggested_caption: namer.text
"""


def contract() -> FileDescriptorProto:
    """A service with one method from text to text."""
    file = FileDescriptorProto(name="foreign/v1/namer.proto", package="foreign.v1", syntax="proto3")
    field = file.message_type.add(name="Text").field.add(name="text", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    method = file.service.add(name="Namer").method.add(name="Name")
    method.input_type = method.output_type = ".foreign.v1.Text"
    return file


@pytest.fixture
async def namer() -> AsyncIterator[str]:
    """A server that writes names large, and tells its contract; gives its target."""
    pool = DescriptorPool()
    pool.AddSerializedFile(contract().SerializeToString())
    text = GetMessageClass(pool.FindMessageTypeByName("foreign.v1.Text"))

    async def name(request: Message, context: object) -> Message:
        return text(text=request.text.upper())  # type: ignore[attr-defined]

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        name, request_deserializer=text.FromString, response_serializer=text.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(NAMER, {"Name": handler}),)
    )
    reflection.enable_server_reflection((NAMER,), server, pool=pool)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    (tmp_path / "names.yaml").write_text(GRAPH)
    return tmp_path


async def test_a_graph_may_call_a_service_that_tells_its_own_contract(
    namer: str, graphs: Path
) -> None:
    config = GatewayConfig(targets=f"{NAMER}={namer}", graphs=graphs, default_graph="names")
    plans = load_plans(config, await contracts(config))
    async with (
        open_channels(config, [NAMER]) as channels,
        open_calls(plans, channels, Policies()) as calls,
    ):
        servicer = OrchestratorServicer(plans, calls, "names")
        response = await servicer.Orchestrate(a_post(caption="ana"), None)  # type: ignore[arg-type]
    assert response.suggested_caption == "ANA"


async def test_a_service_that_does_not_answer_stops_the_start(graphs: Path) -> None:
    targets = "foreign.v2.Namer=127.0.0.1:1"
    config = GatewayConfig(targets=targets, graphs=graphs, start_grace_s=0.1)
    (graphs / "names.yaml").write_text(GRAPH.replace("foreign.v1", "foreign.v2"))
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1:1 does not tell what foreign\.v2"):
        await contracts(config)


async def test_a_service_without_a_target_is_told_with_its_line(graphs: Path) -> None:
    (graphs / "names.yaml").write_text(GRAPH.replace("foreign.v1", "foreign.v3"))
    config = GatewayConfig(graphs=graphs)
    with pytest.raises(SettingsError, match=r"names\.yaml:7: .*unknown service"):
        load_plans(config, await contracts(config))


def test_a_descriptor_set_adds_its_contracts_in_any_order(tmp_path: Path) -> None:
    user = FileDescriptorProto(name="user.proto", package="user", syntax="proto3")
    user.dependency.append("foreign/v1/namer.proto")
    field = user.message_type.add(name="User").field.add(name="name", number=1)
    field.type, field.label, field.type_name = field.TYPE_MESSAGE, 1, ".foreign.v1.Text"
    path = tmp_path / "contracts.pb"
    path.write_bytes(FileDescriptorSet(file=[user, contract()]).SerializeToString())
    pool = descriptor_pool.DescriptorPool()
    add_descriptor_set(pool, path)
    add_descriptor_set(pool, path)  # known files are left as they are
    assert find_method(pool, f"{NAMER}/Name").input_type.full_name == "foreign.v1.Text"
    assert pool.FindMessageTypeByName("user.User")


def test_what_is_no_descriptor_set_is_told(tmp_path: Path) -> None:
    path = tmp_path / "contracts.pb"
    path.write_text("not a set")
    with pytest.raises(ContractError, match=r"contracts\.pb is no descriptor set"):
        add_descriptor_set(descriptor_pool.DescriptorPool(), path)
