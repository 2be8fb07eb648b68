"""The walls: import contracts hold, and no circle of files exists, lazy and TYPE_CHECKING imports included."""

import subprocess
import sys
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp")
tomllib = pytest.importorskip("tomllib")  # Python 3.11

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def packages():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


@pytest.fixture(scope="module")
def graph(packages):
    return grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)


def circles(arrows):
    """Strongly connected components of more than one file (Tarjan 1972), without recursion."""
    order, low, stack, found = {}, {}, [], []
    for start in arrows:
        work = [(start, iter(arrows[start]))] if start not in order else []
        while work:
            node, rest = work[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                stack.append(node)
            for other in rest:
                if other not in order:
                    work.append((other, iter(arrows.get(other, ()))))
                    break
                if other in stack:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    at = stack.index(node)
                    found.append(sorted(stack[at:]))
                    del stack[at:]
    return [circle for circle in found if len(circle) > 1]


def test_no_circle_of_files(graph):
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert circles(arrows) == []


def test_a_circle_would_be_found():
    arrows = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"e"}}
    assert circles(arrows) == [["a", "b", "c"]]


def test_the_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_contracts_cover_every_package(packages):
    """A new ROS package or room has to be named among the roots, or no contract sees it."""
    rooms = {f"edgeflock.{folder.name}" for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}
    nodes = {init.parent.name for init in ROOT.glob("ros2_ws/src/*/*/__init__.py")}
    assert set(packages) == rooms | nodes
