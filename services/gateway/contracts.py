"""Contracts that were not compiled in: from a descriptor set file, or told by a service itself.

Both are added to the pool that has the compiled ones; a file that the pool has already is left as
it is, since two versions of one contract in one process cannot both be right.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from serving.rpc.channels import open_channel

_METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

log = logging.getLogger(__name__)


class ContractError(ValueError):
    """A contract cannot be had or used; the message says which and why."""


def add_descriptor_set(pool: DescriptorPool, path: Path) -> None:
    """Adds the files of a set, as `protoc --include_imports -o FILE` writes it."""
    try:
        files = FileDescriptorSet.FromString(path.read_bytes()).file
    except (OSError, DecodeError) as error:
        raise ContractError(f"{path.name} is no descriptor set that can be read") from error
    _add(pool, {file.name: file for file in files})


async def add_reflected(pool: DescriptorPool, service: str, target: str, patience_s: float) -> None:
    """Asks the server at `target` what `service` is, by gRPC's server reflection."""
    try:
        async with (
            asyncio.timeout(patience_s),
            open_channel(target, health_service=None) as channel,
        ):
            _add(pool, await _ask(pool, channel, service))
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        raise ContractError(f"{target} does not tell what {service} is") from error
    log.info("%s told the contract of %s", target, service)


async def _ask(
    pool: DescriptorPool, channel: grpc.aio.Channel, service: str
) -> Mapping[str, FileDescriptorProto]:
    """Returns the file that holds the service, and those that it needs and nobody here has."""
    ask = reflection_pb2.ServerReflectionRequest
    files: dict[str, FileDescriptorProto] = {}
    waiting = [ask(file_containing_symbol=service)]
    ask_all = channel.stream_stream(
        _METHOD, ask.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString
    )
    while waiting:
        async for answer in ask_all(_each(waiting), wait_for_ready=True):
            for packed in answer.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(packed)
                files[file.name] = file
        needed = {name for file in files.values() for name in file.dependency} - set(files)
        missing = sorted(name for name in needed if not _has(pool, name))
        before, waiting = waiting, [ask(file_by_filename=name) for name in missing]
        if waiting == before:
            raise ContractError(f"{service} needs {', '.join(missing)}, which its server lacks")
    return files


async def _each(
    requests: Iterable[reflection_pb2.ServerReflectionRequest],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    for request in requests:
        yield request


def _add(pool: DescriptorPool, files: Mapping[str, FileDescriptorProto]) -> None:
    """Adds files, each after those that it needs."""
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in done or name not in files or _has(pool, name):
            return
        done.add(name)
        for needed in files[name].dependency:
            visit(needed)
        try:
            pool.AddSerializedFile(files[name].SerializeToString())
        except TypeError as error:
            raise ContractError(f"{name} contradicts a contract that is known: {error}") from error

    for name in files:
        visit(name)


def _has(pool: DescriptorPool, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True
