import pytest

from cluster.programs import program


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["serve", "--port", "1"], ["serving.oip", "--port", "1"]),
        (["train", "timing", "--events", "f"], ["services.timing.own", "train", "--events", "f"]),
        (["evaluate", "ranker", "-h"], ["services.ranker.own", "evaluate", "-h"]),
        (
            ["models", "build", "clip", "--weights", "d"],
            ["services.clip.vit.build", "--weights", "d"],
        ),
        (["models", "list"], []),
        (["train", "clip"], []),
        (["train"], []),
        (["up"], []),
        ([], []),
    ],
)
def test_commands_that_are_programs_name_their_module(
    arguments: list[str], command: list[str]
) -> None:
    assert program(arguments) == command
