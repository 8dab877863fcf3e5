"Rooms and floors: nothing imports upward or in circles, nothing heavy comes with the front door, nothing undeclared is imported."
import ast, graphlib, sys, tomllib
from importlib.metadata import packages_distributions
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from conftest import ROOT, run

FLOORS = {"canonical": 1, "checks": 1, "language": 1, "results": 1, "data": 2, "ledger": 2, "interactions": 3, "misalignment": 3, "entities": 3, "coherence": 3,
          "alignment": 4, "widgets": 5, "poc": 5, "cli": 6}
HEAVY = ("torch", "matplotlib", "sklearn", "pandas", "ibis", "pyarrow", "PIL", "sqlalchemy")
DOORS = ("mmkit", "mmkit._modidx")  # the front door names every room, and the index is nbdev's

def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
MODULES = {module(p): p for p in sorted((ROOT/"mmkit").rglob("*.py"))}

def imports(name, source, is_package=False):
    "Full names that the source of module `name` imports, anywhere in it."
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        if isinstance(node, ast.ImportFrom):
            base = ".".join([*package[:len(package)-node.level+1], *([node.module] if node.module else [])]) if node.level else node.module
            yield from (f"{base}.{a.name}" for a in node.names)

def rooms(name): return name.split(".")[1] if name.startswith("mmkit.") else None

def upward(name, source, is_package=False):
    "Imports that climb, or cross to a neighbour. Floor 1 is one room with three modules."
    here = rooms(name)
    for other in imports(name, source, is_package):
        there = rooms(other)
        if there in FLOORS and there != here and FLOORS[there] >= FLOORS[here] and not FLOORS[there] == FLOORS[here] == 1: yield f"{name} imports {other}"

INSIDE = {n: p for n, p in MODULES.items() if n not in DOORS}
def test_every_room_has_a_floor(): assert {rooms(n) for n in INSIDE} <= set(FLOORS)

def test_nothing_imports_upward():
    assert [u for n, p in INSIDE.items() for u in upward(n, p.read_text(), p.name == "__init__.py")] == []

def test_an_upward_import_is_noticed():
    assert list(upward("mmkit.data.records", "def f():\n    from ..interactions.pid import decompose")) == ["mmkit.data.records imports mmkit.interactions.pid.decompose"]
    assert list(upward("mmkit.results", "from mmkit.cli import app")) and list(upward("mmkit.entities.graphs", "from mmkit import coherence"))
    assert not list(upward("mmkit.poc.run", "from ..interactions import pid\nfrom .parameters import x\nimport numpy"))

def test_no_circles():
    def target(full):  # `mmkit.results.Estimate` -> `mmkit.results`
        while full and full not in INSIDE: full = full.rpartition(".")[0]
        return full
    graph = {n: {t for o in imports(n, p.read_text(), p.name == "__init__.py") if (t := target(o)) and t != n} for n, p in INSIDE.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle

def loaded_after(code):
    return run("-c", f"import sys; {code}; print(*[m for m in {HEAVY} if m in sys.modules])", cwd=ROOT).stdout.split()

def test_the_front_door_is_light(): assert loaded_after("import mmkit") == []
def test_heavy_packages_would_be_noticed(): assert "matplotlib" in loaded_after("import matplotlib")

@pytest.mark.parametrize("name", [n for n in INSIDE if n not in ("mmkit.poc", "mmkit.data", "mmkit.interactions")])
def test_a_room_imports_heavy_things_inside_functions(name): assert loaded_after(f"import {name}") == []

def test_the_names_at_the_door_exist():
    import mmkit
    missing = []
    for name in mmkit.HOMES:
        try: getattr(mmkit, name)
        except (ImportError, AttributeError) as e: missing.append(f"{name}: {e}")
    assert not missing and set(mmkit.HOMES) <= set(dir(mmkit)) and set(mmkit.HOMES) <= set(mmkit.__all__)

ELSEWHERE = {"faiss": "faiss-cpu"} # an import whose distribution has another name, and may not be installed to tell it

def test_everything_imported_is_declared():
    project = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(r).name) for r in [*project["dependencies"], *(r for g in project["optional-dependencies"].values() for r in g)]}
    homes, undeclared = packages_distributions(), set()
    for name, path in INSIDE.items():
        for top in {full.split(".")[0] for full in imports(name, path.read_text(), path.name == "__init__.py")} - set(sys.stdlib_module_names) - {"mmkit"}:
            if not {canonicalize_name(d) for d in homes.get(top, [ELSEWHERE.get(top, top)])} & declared: undeclared.add(f"{name} imports {top}")
    assert not undeclared
