"""Where the silos are and what lies between them: latency and bandwidth of every pair.

A network comes from a `.gml` file of links, from a matrix that robots measured, or by name. Between two silos that no
link joins, traffic takes the shortest path; among equally short ones the one of the fewest links.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError, MissingExtra

MS_PER_KM = 0.0085  # `aioz-ai/MultigraphFL`, docs/decisions/0010; once per pair comes
PAIR_MS = 4.0
CORE_BPS = 1e9
EARTH_KM = 6371.0088

# Latitude and longitude in degrees: of the city, of the middle of the state where Gaia names a state.
GAIA = {
    "Virginia": (37.1, -78.5),
    "California": (36.5, -118.8),
    "Oregon": (43.8, -120.7),
    "Dublin": (53.35, -6.26),
    "Frankfurt": (50.11, 8.68),
    "Tokyo": (35.68, 139.69),
    "Seoul": (37.57, 126.98),
    "Singapore": (1.35, 103.82),
    "Sydney": (-33.87, 151.21),
    "Mumbai": (19.08, 72.88),
    "Sao Paulo": (-23.55, -46.63),
}
AMAZON = {
    "Ashburn": (39.04, -77.49),
    "Atlanta": (33.75, -84.39),
    "Boston": (42.36, -71.06),
    "Chicago": (41.88, -87.63),
    "Dallas": (32.78, -96.80),
    "Denver": (39.74, -104.99),
    "Hayward": (37.67, -122.08),
    "Jacksonville": (30.33, -81.66),
    "Los Angeles": (34.05, -118.24),
    "Miami": (25.76, -80.19),
    "Minneapolis": (44.98, -93.27),
    "Montreal": (45.50, -73.57),
    "New York": (40.71, -74.01),
    "Newark": (40.74, -74.17),
    "Palo Alto": (37.44, -122.14),
    "Phoenix": (33.45, -112.07),
    "Philadelphia": (39.95, -75.17),
    "San José": (9.93, -84.08),  # Costa Rica, where the published network has it: the published figures rest on it
    "Seattle": (47.61, -122.33),
    "South Bend": (41.68, -86.25),
    "St. Louis": (38.63, -90.20),
    "Toronto": (43.65, -79.38),
}
BUILT_IN = {"gaia": GAIA, "amazon": AMAZON}


@dataclass(frozen=True, eq=False)
class SiloNetwork:
    """Silos and what a message between two of them meets on its way.

    Parameters
    ----------
    name : str
        Name in tables.
    silos : tuple of str
        Unique names; their order is the index in every array.
    links : ndarray of int, shape (m, 2)
        The links of the underlay, each once.
    latency_ms : ndarray, shape (n, n)
        From row to column, without the time for the bits.
    core_ms_per_bit : ndarray, shape (n, n)
        Time that one bit takes on all links of the path, one after the other.
    positions : ndarray, shape (n, 2), optional
        Longitude and latitude in degrees, or x and y.
    """

    name: str
    silos: tuple[str, ...]
    links: np.ndarray
    latency_ms: np.ndarray
    core_ms_per_bit: np.ndarray
    positions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.silos)

    def index(self, silo: str) -> int:
        """Index of a silo by name; `InputError` when there is none."""
        if silo not in self.silos:
            raise InputError(f"{self.name} has no silo '{silo}': expected one of {', '.join(self.silos)}.")
        return self.silos.index(silo)


def open_network(source: str, core_bps: float | None = CORE_BPS) -> SiloNetwork:
    """Network by name, or from a `.gml` or a `.json` file.

    Parameters
    ----------
    source : str
        `gaia`, `amazon`, `random:N` or `random:N:SEED` (N silos strewn over a square), or a path.
    core_bps : float, optional
        Capacity of every link; None takes the edge attribute `capacity` (bit/s) of a .gml file.
    """
    if source in BUILT_IN:
        return city_network(source, core_bps or CORE_BPS)
    if source.startswith("random:"):
        figures = source.split(":")[1:]
        if len(figures) > 2 or not all(f.isdigit() for f in figures):
            raise InputError(f"'{source}' is no random network: expected random:SILOS or random:SILOS:SEED.")
        n, seed = (*map(int, figures), 0)[:2]
        return random_network(n, seed, core_bps or CORE_BPS)
    path = Path(source)
    if not path.is_file():
        known = ", ".join(BUILT_IN)
        raise InputError(f"no network '{source}': expected one of {known}, random:N, or a .gml or .json file.")
    if path.suffix == ".gml":
        return read_gml(path, core_bps)
    if path.suffix == ".json":
        return read_delays(path)
    raise InputError(f"{path} is neither .gml (links) nor .json (measured delays).")


def city_network(name: str, core_bps: float = CORE_BPS) -> SiloNetwork:
    """Built-in network `gaia` (11 silos) or `amazon` (22): every pair linked along the great circle."""
    cities = BUILT_IN[name]
    places = np.array(list(cities.values()))
    lat, lon = np.radians(places.T)
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    km = 2 * EARTH_KM * np.arcsin(np.clip(np.linalg.norm(xyz[:, None] - xyz, axis=2) / 2, 0, 1))
    apart = 1.0 - np.eye(len(cities))
    latency = (MS_PER_KM * km + PAIR_MS) * apart
    links = np.argwhere(np.triu(apart))
    return SiloNetwork(name, tuple(cities), links, latency, apart * 1e3 / core_bps, places[:, ::-1])


def random_network(n: int, seed: int = 0, core_bps: float = CORE_BPS, side_km: float = 5000.0) -> SiloNetwork:
    """Random geometric network: `n` silos strewn over a square, linked when near; the radius grows until connected."""
    if n < 3:
        raise InputError(f"a network needs 3 silos or more, got {n}.")
    _scipy()
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    places = np.random.default_rng(seed).uniform(0, side_km, (n, 2))
    tree, radius = cKDTree(places), side_km * math.sqrt(math.log(n) / (math.pi * n))
    while True:
        links = tree.query_pairs(radius, output_type="ndarray")
        if connected_components(_sparse(n, links, np.ones(len(links))), directed=False)[0] == 1:
            break
        radius *= 1.1
    links = links[np.lexsort(links.T[::-1])].astype(int)
    km = np.linalg.norm(places[links[:, 0]] - places[links[:, 1]], axis=1)
    total, core = _routes(n, links, km, np.full(len(links), 1e3 / core_bps))
    silos = tuple(f"silo-{i:0{len(str(n - 1))}d}" for i in range(n))
    return SiloNetwork(f"random-{n}", silos, links, _latency(total), core, places)


def read_gml(path: Path, core_bps: float | None = CORE_BPS) -> SiloNetwork:
    """Network of a `.gml` file.

    Every edge carries `latency` (ms, adds up along the path), or else `distance` (km; 0.0085 ms/km and 4 ms per pair).
    With `core_bps` None every edge carries `capacity` (bit/s) too. Nodes may carry `Longitude` and `Latitude`.

    Raises
    ------
    DataError
        Not GML, directed, doubled edges, self loops, an attribute missing or out of range, not connected.
    """
    try:
        import networkx
    except ImportError as e:
        raise MissingExtra.pip("Reading .gml files", "fleet", e) from e
    try:
        graph = networkx.read_gml(path, label="id")
    except (networkx.NetworkXError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} is not a silo network in GML: {e}. Mend the line it names, or export it again.") from e
    if graph.is_directed() or graph.is_multigraph():
        raise DataError(f"{path}: links go both ways, so remove 'directed 1' and 'multigraph 1' and doubled edges.")
    ids = list(graph)
    silos = tuple(str(graph.nodes[i].get("label", i)) for i in ids)
    twice = next((s for s in silos if silos.count(s) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two nodes are labelled '{twice}'. Give every silo a label of its own.")
    if len(ids) < 2:
        raise DataError(f"{path} has {len(ids)} node: a network needs two silos or more.")
    at = {node: i for i, node in enumerate(ids)}
    edges = list(graph.edges(data=True))
    named = {(u, v): f"{path}: edge {silos[at[u]]} - {silos[at[v]]}" for u, v, _ in edges}
    loop = next(((u, v) for u, v, _ in edges if u == v), None)
    if loop:
        raise DataError(f"{named[loop]} is a self loop. Remove it: a silo needs no link to itself.")
    measure = "latency" if edges and all("latency" in d for *_, d in edges) else "distance"

    def values(attribute: str, least: float, unit: str) -> np.ndarray:
        found = []
        for u, v, data in edges:
            value = data.get(attribute)
            if value is None:
                raise DataError(
                    f"{named[u, v]} has no '{attribute}'. Write `{attribute} NUMBER` ({unit}) into the edge."
                )
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
                raise DataError(
                    f"{named[u, v]} has {attribute} {value!r}: expected a number from {least:g} up ({unit})."
                )
            found.append(float(value))
        return np.array(found)

    length = values(measure, 0, "ms" if measure == "latency" else "km, or `latency` in ms on every edge")
    bps = values("capacity", 1, "bit/s") if core_bps is None else np.full(len(edges), core_bps)
    links = np.array([(at[u], at[v]) for u, v, _ in edges]).reshape(-1, 2)
    parts = list(networkx.connected_components(graph))
    if len(parts) > 1:
        lone = min(parts, key=len)
        here, there = silos[at[next(iter(lone))]], silos[at[next(i for i in ids if i not in lone)]]
        raise DataError(
            f"{path} is not connected: no path from {here} to {there}. Add the missing edge, or remove {here}."
        )
    total, core = _routes(len(ids), links, length, 1e3 / bps)
    places = [(d.get("Longitude"), d.get("Latitude")) for _, d in graph.nodes(data=True)]
    known = all(isinstance(x, (int, float)) for place in places for x in place)
    latency = total if measure == "latency" else _latency(total)
    return SiloNetwork(path.stem, silos, links, latency, core, np.array(places, float) if known else None)


def read_delays(path: Path) -> SiloNetwork:
    """Network of a matrix that robots measured.

    JSON: `{"silos": [names], "delay_ms": n x n, "bandwidth_bps": n x n}`; `delay_ms[i][j]` is the time of a small
    message from i to j. Without `bandwidth_bps` only the access links bound the transfer.

    Raises
    ------
    DataError
        Not that JSON, not square, a pair missing, negative or not a number.
    """
    try:
        content = json.loads(path.read_text())
        silos = tuple(map(str, content["silos"]))
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(
            f'{path} is no delay matrix ({type(e).__name__}: {e}). Expected {{"silos": [names], "delay_ms": rows}}.'
        ) from e
    n = len(silos)
    if n < 2 or len(set(silos)) < n:
        raise DataError(f"{path}: 'silos' needs two names or more, each once; got {', '.join(silos) or 'none'}.")

    def matrix(key: str, positive: bool) -> np.ndarray:
        rows = content.get(key)
        if not isinstance(rows, list) or [len(r) if isinstance(r, list) else -1 for r in rows] != [n] * n:
            raise DataError(f"{path}: '{key}' needs {n} rows of {n} numbers, one for each of 'silos'.")
        for i in range(n):
            for j in range(n):
                v = rows[i][j]
                good = isinstance(v, (int, float)) and math.isfinite(v) and (v > 0 or (v == 0 and not positive))
                if i != j and not good:
                    raise DataError(
                        f"{path}: {key} from {silos[i]} to {silos[j]} is {v!r}. Measure this pair again, or leave out "
                        "one of the two robots: every pair has to reach each other."
                    )
        return np.array([[0.0 if i == j else float(rows[i][j]) for j in range(n)] for i in range(n)])

    delay = matrix("delay_ms", positive=False)
    core = np.zeros((n, n))
    if "bandwidth_bps" in content:
        bps = matrix("bandwidth_bps", positive=True) + np.eye(n)
        core = 1e3 / bps * (1 - np.eye(n))
    return SiloNetwork(path.stem, silos, np.argwhere(np.triu(np.ones((n, n)), 1)), delay, core)


def _latency(km: np.ndarray) -> np.ndarray:
    return (MS_PER_KM * km + PAIR_MS) * (1 - np.eye(len(km)))


def _routes(n: int, links: np.ndarray, length: np.ndarray, ms_per_bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length and time per bit along the shortest path of every pair; fewest links among equally short ones."""
    _scipy()
    from scipy.sparse.csgraph import dijkstra

    per_hop = 1e-9 * max(float(length.max()), 1e-3)  # breaks ties, far below any real difference
    _, before = dijkstra(_sparse(n, links, length + per_hop), directed=False, return_predecessors=True)
    link_length, link_ms = np.zeros((n, n)), np.zeros((n, n))
    for cell, values in ((link_length, length), (link_ms, ms_per_bit)):
        cell[links[:, 0], links[:, 1]] = cell[links[:, 1], links[:, 0]] = values
    total, ms = np.zeros((n, n)), np.zeros((n, n))
    source, at = np.indices((n, n))
    previous = np.where(np.eye(n, dtype=bool), -1, before)
    while (previous >= 0).any():
        on_way = previous >= 0
        total += np.where(on_way, link_length[previous, at], 0)
        ms += np.where(on_way, link_ms[previous, at], 0)
        at = np.where(on_way, previous, at)
        previous = np.where(on_way & (at != source), before[source, at], -1)
    return (total + total.T) / 2, (ms + ms.T) / 2


def _sparse(n: int, links: np.ndarray, values: np.ndarray):
    from scipy.sparse import coo_array

    return coo_array((values, links.T), shape=(n, n)).tocsr()


def _scipy() -> None:
    try:
        import scipy.sparse  # noqa: F401
    except ImportError as e:
        raise MissingExtra.pip("Routes over links", "fleet", e) from e
