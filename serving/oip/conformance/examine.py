"""Goes through the rules in their order and gives a result for each."""

from collections.abc import AsyncIterator

import grpc

from serving.oip.conformance import infer_rules, mistake_rules, server_rules
from serving.oip.conformance.finding import BrokenError, NotApplicableError
from serving.oip.conformance.rule import Level, Result, Rule, Verdict
from serving.oip.conformance.target import Target


async def no_rest(target: Target) -> None:
    raise NotApplicableError("HTTP is not examined")


RULES: tuple[Rule, ...] = (
    *server_rules.RULES,
    *infer_rules.RULES,
    *mistake_rules.RULES,
    Rule("23", Level.MUST, "the REST twin, where there is one", no_rest),
    *server_rules.LAST_RULES,
)


async def examine(target: Target) -> AsyncIterator[Result]:
    """Checks every rule; none depends on another."""
    for rule in RULES:
        try:
            await rule.check(target)
        except NotApplicableError as error:
            yield Result(rule, Verdict.SKIP, str(error))
        except BrokenError as error:
            yield Result(rule, Verdict.FAIL, str(error))
        except grpc.aio.AioRpcError as error:
            yield Result(rule, Verdict.FAIL, f"{error.code().name} {error.details() or ''}".strip())
        else:
            yield Result(rule, Verdict.PASS)
