"""One request that is larger than a batch: in parts, side by side, answered whole."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from serving import request
from serving.models.rows import Outputs, concatenate

Part = TypeVar("Part")


async def infer_parts(
    infer: Callable[[Part], Awaitable[Outputs]], parts: Sequence[Part]
) -> Outputs:
    """Returns the outputs of all parts in their order; raises what the first failure raised.

    Each part has a ledger of its own while it runs: they overlap, and the call's is that of the
    part that took longest.
    """
    facts = request.current()
    ledgers = [request.LedgerBuilder() for _ in parts]

    async def run(part: Part, ledger: request.LedgerBuilder) -> Outputs:
        request.enter(replace(facts, ledger=ledger))
        return await infer(part)

    try:
        async with asyncio.TaskGroup() as group:
            pairs = zip(parts, ledgers, strict=True)
            tasks = [group.create_task(run(part, ledger)) for part, ledger in pairs]
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    facts.ledger.add_longest(ledgers)
    return concatenate([task.result() for task in tasks])
