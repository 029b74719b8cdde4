"""The import graph of the whole tree, read from its source: one-way floors and no circles."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("serving", "services", "cluster", "simulation")
STUBS = ("fomofeed", "inference")

# What each room may import of the others. Stubs are below everything.
FLOORS = {
    "serving": set[str](),
    "simulation": set[str](),
    "services": {"serving", "simulation"},
    "cluster": {"serving"},
}

# The wings of the runtime from the ground up: each may import those named before it.
WINGS = ("ground", "scheduling", "engines", "models", "rpc", "oip", "training")

ImportGraph = Mapping[str, frozenset[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Absolute names that a module imports, wherever in it the import stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_graph() -> ImportGraph:
    """Every module of the tree with the modules of the tree that it imports."""
    paths = {module_name(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    return {
        name: frozenset(found for found in imported_names(path) if found in paths)
        for name, path in paths.items()
    }


GRAPH = read_graph()
EDGES = sorted((name, target) for name, targets in GRAPH.items() for target in targets)


def test_the_tree_was_read() -> None:
    assert {name.partition(".")[0] for name in GRAPH} == set(ROOMS)
    assert ("cluster.__main__", "cluster.commands") in EDGES


def test_rooms_import_only_the_floors_below_them() -> None:
    upward = [
        (name, target)
        for name, target in EDGES
        if (room := name.partition(".")[0]) != (other := target.partition(".")[0])
        and other not in FLOORS[room]
    ]
    assert upward == []


def test_no_service_imports_another() -> None:
    def service(module: str) -> str:
        return module.split(".")[1] if module.startswith("services.") else ""

    across = [
        (name, target)
        for name, target in EDGES
        if service(name) and service(target) and service(name) != service(target)
    ]
    assert across == []


def wing(module: str) -> int:
    """The floor of a module of the runtime, 0 for the ground."""
    parts = module.split(".")
    return WINGS.index(parts[1]) if len(parts) > 1 and parts[1] in WINGS else 0


def test_wings_of_the_runtime_import_only_what_stands_below_them() -> None:
    inside = [(name, target) for name, target in EDGES if name.startswith("serving.")]
    assert [(name, target) for name, target in inside if wing(target) > wing(name)] == []


def test_scheduling_knows_neither_grpc_nor_engines() -> None:
    for path in (ROOT / "serving/scheduling").glob("*.py"):
        packages = {name.partition(".")[0] for name in imported_names(path)}
        assert packages.isdisjoint({"grpc", "onnxruntime", "torch"}), path.name


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter(read_graph()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("room", ["serving", "simulation"])
def test_the_lower_floors_know_no_contract_but_the_shared_types(room: str) -> None:
    names = {
        name
        for path in (ROOT / room).rglob("*.py")
        for name in imported_names(path)
        if name.startswith("fomofeed.")
    }
    assert {name for name in names if not name.startswith("fomofeed.type.")} == set()


def test_services_know_other_services_by_their_stubs_only_in_the_gateway() -> None:
    foreign = [
        (module_name(path), name)
        for path in (ROOT / "services").rglob("*.py")
        for name in imported_names(path)
        if name.startswith("fomofeed.")
        and name.split(".")[1] not in ("type", service_of(path))
        and service_of(path) != "gateway"
    ]
    assert foreign == []


def service_of(path: Path) -> str:
    return path.relative_to(ROOT / "services").parts[0]
