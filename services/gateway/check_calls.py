"""Checks how a node is called: what may be done twice, remembered, or sent together."""

from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.batches import BatchError, compile_batch
from services.gateway.descriptors import suggestion
from services.gateway.graph import GraphFile, Problem

RETRIES = ("none", "hot", "background")


def call_problems(
    file: GraphFile, node: pb.Node, method: MethodDescriptor | None
) -> Iterator[Problem]:
    """Yields what is wrong with the policies of one node; `method` is None where it is unknown."""
    line = file.line("nodes", node.name, "retry")
    if node.retry and node.retry not in RETRIES:
        text = f"node {node.name}: unknown retry profile {node.retry!r}"
        yield Problem(line, text, f"known: {', '.join(RETRIES)}")
    line = file.line("nodes", node.name, "cache_s")
    if node.cache_s < 0:
        text = f"node {node.name}: cache_s is {node.cache_s:g}"
        yield Problem(line, text, "state seconds, 0 or more")
    yield from _not_idempotent(file, node)
    if node.batch and method is not None:
        yield from _batch(file, node, method)


def _not_idempotent(file: GraphFile, node: pb.Node) -> Iterator[Problem]:
    """What is only for calls that may be made twice."""
    done = {
        "retry": "retried" if node.retry in RETRIES[1:] else "",
        "cache_s": "cached" if node.cache_s > 0 else "",
        "batch": "sent together with others" if node.batch else "",
    }
    for key, how in done.items():
        if how and not node.idempotent:
            text = f"node {node.name} is {how} but not declared idempotent"
            remedy = f"add idempotent: true, or remove {key}"
            yield Problem(file.line("nodes", node.name, key), text, remedy)


def _batch(file: GraphFile, node: pb.Node, method: MethodDescriptor) -> Iterator[Problem]:
    line = file.line("nodes", node.name, "batch")
    methods = method.containing_service.methods_by_name
    if node.batch not in methods:
        text = f"node {node.name}: unknown batch method {node.batch!r}"
        yield Problem(line, text, suggestion(node.batch, methods))
        return
    try:
        compile_batch(method, methods[node.batch])
    except BatchError as error:
        text = f"node {node.name}: {node.batch} is no batch of {method.name}: {error}"
        yield Problem(line, text, error.remedy)
