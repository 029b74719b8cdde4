"""`fomofeed forget`: deletes a user wherever a service keeps something of one.

Each deletion is idempotent and ends when the files hold nothing of the user any more; one that
fails does not keep the others from being tried.
"""

from collections.abc import Awaitable, Callable

import grpc

from cluster.errors import CommandError
from cluster.explain import in_words
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc
from serving.rpc.channels import open_channel

DEFAULT_TIMEOUT_S = 600.0  # a database of 100 million events is written anew in less
_Delete = Callable[[grpc.aio.Channel], Awaitable[str]]


async def forget(profile: str, timing: str, user_id: int, timeout_s: float) -> list[str]:
    """Deletes a user at both servers, at host:port; returns what was there, in words.

    Raises `CommandError` with what each server said when one of them failed.
    """

    async def from_profile(channel: grpc.aio.Channel) -> str:
        request = profile_pb.DeleteUserRequest(user_id=user_id)
        stub = profile_grpc.ProfileServiceStub(channel)
        answer = await stub.DeleteUser(request, timeout=timeout_s)
        return f"profile: {'deleted' if answer.was_known else 'nothing was kept'}"

    async def from_timing(channel: grpc.aio.Channel) -> str:
        request = timing_pb.DeleteUserOutcomesRequest(user_id=user_id)
        stub = timing_grpc.TimingServiceStub(channel)
        answer = await stub.DeleteUserOutcomes(request, timeout=timeout_s)
        return f"timing: {answer.deleted_count:,} recorded outcomes deleted"

    done, failed = [], []
    for target, delete in ((profile, from_profile), (timing, from_timing)):
        try:
            done.append(await _ask(target, delete))
        except CommandError as error:
            failed.append(str(error))
    if failed:
        raise CommandError("\n".join([*failed, *done, "calling again goes on with the rest"]))
    return done


async def _ask(target: str, delete: _Delete) -> str:
    async with open_channel(target, health_service=None) as channel:
        try:
            return await delete(channel)
        except grpc.aio.AioRpcError as error:
            raise CommandError(in_words(error, target)) from None
