"""Files of links: GML and GraphML as the Internet Topology Zoo and others have it, read to silos and what joins them.

Real files lack distances, join two places twice, call several nodes "None" and say `multigraph 1`. What can be filled
in is, and said (`Links.notes`); what cannot is refused, all of it at once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.extras import needs

if TYPE_CHECKING:
    from networkx import Graph

EARTH_KM = 6371.0088
MOST = {"distance": 1e6, "latency": 3.6e6, "capacity": 1e15}
"""Beyond is no network: 25 times round the earth in km, an hour in ms, a petabit per second."""
UNITS = {"distance": "km", "latency": "ms", "capacity": "bit/s"}
SLOW_BPS = 1e5
"""A network none of whose links is faster is written in another unit, more likely than not."""
TYPICAL_KM = 100.0
"""A link of a file that says nothing of lengths; the median of the Topology Zoo's 11,151 with coordinates is 106."""
FORMATS = (".gml", ".graphml")
SHOWN = 8  # faults of a file that are told one by one
_OTHER_NAMES = ("delay", "latency_ms", "delay_ms", "distance_km", "length", "weight", "cost")


@dataclass(frozen=True, eq=False)
class Links:
    """Silos and the links between them, each pair once.

    Attributes
    ----------
    silos : tuple of str
        Unique names.
    ends : ndarray of int, shape (m, 2)
    measure : {"distance", "latency"}
        What `length` is: km, or ms.
    length : ndarray, shape (m,)
    capacity_bps : ndarray, shape (m,), or None
        Where it was asked for.
    positions : ndarray, shape (n, 2), or None
        Longitude and latitude in degrees, or x and y.
    notes : tuple of str
        What was filled in, left out or looks odd.
    """

    silos: tuple[str, ...]
    ends: np.ndarray
    measure: Literal["distance", "latency"]
    length: np.ndarray
    capacity_bps: np.ndarray | None
    positions: np.ndarray | None
    notes: tuple[str, ...]


def great_circle_km(places: np.ndarray) -> np.ndarray:
    """Distances (n, n) between places (n, 2), longitude and latitude in degrees, over the surface of the earth."""
    xyz = _on_sphere(places)
    return 2 * EARTH_KM * np.arcsin(np.clip(np.linalg.norm(xyz[:, None] - xyz, axis=2) / 2, 0, 1))


def read_links(path: Path, with_capacity: bool = False) -> Links:
    """Links of a file of one of `FORMATS`.

    Every edge carries `latency` (ms), or else `distance` (km). Where a distance is missing it is the great circle's
    between the nodes' `Longitude` and `Latitude`; a node without these is taken to be in the middle of its neighbours.
    Where a file says nothing of lengths at all, every link is `TYPICAL_KM` long. Parallel links, and the two ways of a
    directed one, are one link, the shortest. Nodes of one label are told apart by their id.

    Parameters
    ----------
    path : Path
    with_capacity : bool
        Read `capacity` (bit/s) too, or the Topology Zoo's `LinkSpeedRaw` where an edge has none.

    Raises
    ------
    DataError
        Not of that format, or faults, all named: links that go one way, attributes that are missing or out of range,
        parts that no link joins.
    """
    graph = _parsed(path)
    faults: list[str] = []
    notes: list[str] = []
    at = {node: i for i, node in enumerate(graph)}
    silos = _names(graph, notes)
    edges = [(at[u], at[v], data) for u, v, data in graph.edges(data=True) if u != v]
    if loops := [silos[at[u]] for u, v, _ in graph.edges(data=True) if u == v]:
        notes.append(f"links of a silo to itself are left out: {_listed(loops)}")
    if len(silos) < 2:
        raise DataError(f"{path} has {len(silos)} node: a network needs two silos or more.")
    if graph.is_directed():
        undirected = 'edgedefault="undirected"' if path.suffix.lower() == ".graphml" else "directed 0"
        ways = {(u, v) for u, v, _ in edges}
        faults += [
            f"edge {silos[u]} - {silos[v]} goes one way, and links go both: add the way back, or write {undirected}"
            for u, v in sorted(ways)
            if (v, u) not in ways
        ]
    measure, length, positions = _lengths(graph, silos, edges, faults, notes)
    capacity = _values(silos, edges, "capacity", faults, ("LinkSpeedRaw",)) if with_capacity else None
    _check_connected(graph, at, silos, faults)
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = faults[0] if len(faults) == 1 else "\n  " + "\n  ".join(faults[:SHOWN]) + more
        raise DataError(f"{path}: {listed}.")
    if capacity is not None and capacity.max(initial=0) < SLOW_BPS:
        notes.append(
            f"no link is faster than {capacity.max():g} bit/s: if the file has kbit/s, Mbit/s or Gbit/s, write bit/s"
        )
    kept = _shortest_of_each(edges, length, capacity, graph.is_directed(), notes)
    ends = np.array([edges[i][:2] for i in kept]).reshape(-1, 2)
    return Links(
        silos, ends, measure, length[kept], None if capacity is None else capacity[kept], positions, tuple(notes)
    )


def read_text(path: Path) -> str:
    """Text of a file that people and their editors wrote: UTF-8, with or without a byte order mark, UTF-16, Latin-1."""
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parsed(path: Path) -> Graph:
    """The file as a multigraph whose nodes are its ids."""
    with needs("Reading networks of links"):
        import networkx
    xml = path.suffix.lower() == ".graphml"
    try:
        if xml:
            return networkx.read_graphml(BytesIO(path.read_bytes()), force_multigraph=True)
        # Files double links with and without saying `multigraph 1`; networkx wants it said.
        text = re.sub(r"(?im)^(\s*graph\s*\[)", r"\1 multigraph 1 ", read_text(path), count=1)
        return networkx.parse_gml(text, label="id")
    except (networkx.NetworkXError, SyntaxError, LookupError, ValueError, TypeError, RecursionError) as e:
        kind = "GraphML" if xml else "GML"
        raise DataError(
            f"{path} is not a silo network in {kind}: {str(e) or type(e).__name__}. Mend what it names, or export it "
            "again."
        ) from e


def _names(graph: Graph, notes: list[str]) -> tuple[str, ...]:
    """A name for every node: its label, with its id behind where several have the same."""
    plain = [str(data.get("label", node)).strip() for node, data in graph.nodes(data=True)]
    labels = [label or f"node {node}" for label, node in zip(plain, graph, strict=True)]
    count = Counter(labels)
    taken = {label for label, n in count.items() if n == 1}
    names = []
    for label, node in zip(labels, graph, strict=True):
        name = label if count[label] == 1 else f"{label} ({node})"
        while count[label] > 1 and name in taken:
            name = f"{name} ({node})"
        taken.add(name)
        names.append(name)
    if twins := [label for label, n in count.items() if n > 1]:
        notes.append(f"nodes of one label are told apart by their id: {_listed(twins)}")
    return tuple(names)


Edges = list[tuple[int, int, dict[str, Any]]]


def _lengths(
    graph: Graph, silos: tuple[str, ...], edges: Edges, faults: list[str], notes: list[str]
) -> tuple[Literal["distance", "latency"], np.ndarray, np.ndarray | None]:
    """Measure, length of every edge, positions of the nodes."""
    has = {name: sum(name in data for *_, data in edges) for name in ("latency", "distance")}
    measure: Literal["distance", "latency"] = "distance"
    if edges and (has["latency"] == len(edges) or len(edges) > has["distance"] < has["latency"]):
        measure = "latency"
    other = "distance" if measure == "latency" else "latency"
    if has[other] and has[measure] == len(edges):
        notes.append(f"`{other}` of {has[other]} edges is not used: all have `{measure}`")
    places = np.array([_place(data) for _, data in graph.nodes(data=True)])
    known = np.isfinite(places).all(axis=1)
    positions = places if known.all() else None
    missing = len(edges) - has[measure]
    near = sorted({key for *_, data in edges for key in data if key.lower() in (*_OTHER_NAMES, *UNITS)} - {*UNITS})
    if not (has["latency"] or has["distance"] or known.any() or near):
        notes.append(
            f"neither the edges nor the nodes say how far apart the silos are: every link is taken to be "
            f"{TYPICAL_KM:g} km long; write `distance` (km) or `latency` (ms) into the edges for real ones"
        )
        return measure, np.full(len(edges), TYPICAL_KM), positions
    if measure == "latency" or not missing or not known.any():
        return measure, _values(silos, edges, measure, faults), positions
    odd = [i for i in np.flatnonzero(known) if not (-180 <= places[i, 0] <= 360 and -90 <= places[i, 1] <= 90)]
    faults += [
        f"node {silos[i]} is at Longitude {places[i, 0]:g}, Latitude {places[i, 1]:g}: expected degrees, or `distance` "
        "(km) on every edge"
        for i in odd
    ]
    if unplaced := [silos[i] for i in np.flatnonzero(~known)]:
        places = _placed(places, known, edges)
        notes.append(f"without Longitude and Latitude, taken to be amid their neighbours: {_listed(unplaced)}")
    if near:
        notes.append(f"{_listed(near)} of edges is not read: `latency` (ms) or `distance` (km) would be")
    notes.append(f"the distance of {missing} of {len(edges)} edges is that between the nodes' coordinates")
    between = great_circle_km(places)
    filled = [(u, v, {"distance": between[u, v]} | data) for u, v, data in edges]
    return measure, _values(silos, filled, measure, faults), places


def _values(
    silos: tuple[str, ...], edges: Edges, attribute: str, faults: list[str], instead: tuple[str, ...] = ()
) -> np.ndarray:
    """An attribute of every edge; what is missing or out of range becomes a fault."""
    found = np.ones(len(edges))
    names = (attribute, *instead)
    there = sum(any(name in data for name in names) for *_, data in edges)
    for i, (u, v, data) in enumerate(edges):
        value = next((data[name] for name in names if name in data), None)
        edge, unit = f"edge {silos[u]} - {silos[v]}", UNITS[attribute]
        if value is None:
            others = f", which {there} of {len(edges)} edges have" if there else ""
            near = sorted(key for key in data if key.lower() in (*_OTHER_NAMES, *UNITS) and key not in names)
            held = f"; it has {_listed(near)}" if near else ""
            where = ", or Longitude and Latitude into the nodes" if attribute == "distance" and not there else ""
            faults.append(
                f"{edge} has no '{attribute}'{others}{held}: write `{attribute} NUMBER` ({unit}) into the edge{where}"
            )
            continue
        least = 1 if attribute == "capacity" else 0
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not least <= number <= MOST[attribute]:
            faults.append(
                f"{edge} has {attribute} {value!r}: expected a number from {least:g} up to {MOST[attribute]:g} ({unit})"
            )
            continue
        found[i] = number
    return found


def _check_connected(graph: Graph, at: dict, silos: tuple[str, ...], faults: list[str]) -> None:
    import networkx

    parts = sorted(networkx.connected_components(networkx.Graph(graph)), key=len)
    if len(parts) > 1:
        lone = parts[0]
        here = silos[min(at[node] for node in lone)]
        there = silos[min(at[node] for node in graph if node not in lone)]
        faults.append(
            f"it is not connected but in {len(parts)} parts: no path from {here} to {there}. Add the missing edges, or "
            f"remove {_listed([silos[at[node]] for part in parts[:-1] for node in sorted(part, key=at.__getitem__)])}"
        )


def _shortest_of_each(
    edges: Edges, length: np.ndarray, capacity: np.ndarray | None, directed: bool, notes: list[str]
) -> list[int]:
    """Index of the link that stands for each pair: the shortest, of equal ones the widest, in the file's order."""
    best: dict[tuple[int, int], int] = {}
    for i, (u, v, _) in enumerate(edges):
        pair = (min(u, v), max(u, v))
        j = best.setdefault(pair, i)
        rank = [(length[k], 0 if capacity is None else -capacity[k]) for k in (i, j)]
        if rank[0] < rank[1]:
            best[pair] = i
    if merged := len(edges) - len(best):
        what = "the two ways of a link are" if directed else "parallel links are"
        notes.append(f"{what} one, the shortest: {len(best)} links of {len(best) + merged} edges")
    return list(best.values())


def _place(node: dict[str, Any]) -> tuple[float, float]:
    try:
        return float(node.get("Longitude", math.nan)), float(node.get("Latitude", math.nan))
    except (TypeError, ValueError):
        return math.nan, math.nan


def _placed(places: np.ndarray, known: np.ndarray, edges: Edges) -> np.ndarray:
    """Places of all nodes: those not known in the middle of the neighbours that are, ring by ring."""
    xyz, known = _on_sphere(np.nan_to_num(places)) * known[:, None], known.copy()
    ends = np.array([edge[:2] for edge in edges])
    while not known.all():
        total, count = np.zeros_like(xyz), np.zeros(len(xyz))
        for here, there in (ends.T, ends.T[::-1]):
            np.add.at(total, here, xyz[there])
            np.add.at(count, here, known[there])
        found = ~known & (count > 0)
        if not found.any():
            break  # not connected, which is said elsewhere
        xyz[found] = total[found] / np.maximum(np.linalg.norm(total[found], axis=1, keepdims=True), 1e-12)
        known |= found
    there = np.degrees(np.stack([np.arctan2(xyz[:, 1], xyz[:, 0]), np.arcsin(np.clip(xyz[:, 2], -1, 1))], axis=1))
    return np.where(np.isfinite(places).all(axis=1, keepdims=True), places, there)


def _on_sphere(places: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(places.T)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _listed(names: list[str], shown: int = 5) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:shown]) + (f" and {len(unique) - shown} more" if len(unique) > shown else "")
