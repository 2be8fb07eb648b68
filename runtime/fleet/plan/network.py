"""Where the silos are and what lies between them: latency and bandwidth of every pair.

A network comes from a file of links, from a matrix that robots measured, or by name. Between two silos that no
link joins, traffic takes the shortest path; among equally short ones the one of the fewest links.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import parse_json
from edgeflock.runtime.fleet.plan.links import (
    FORMATS,
    MOST,
    SHOWN,
    SLOW_BPS,
    UNITS,
    great_circle_km,
    read_links,
)

MS_PER_KM = 0.0085  # `aioz-ai/MultigraphFL`, docs/decisions/0010; once per pair comes
PAIR_MS = 4.0
CORE_BPS = 1e9
MOST_SILOS = 5000
"""Of a random network: delays are a matrix of all pairs."""

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
    notes : tuple of str
        What reading it assumed, and what looks odd.
    """

    name: str
    silos: tuple[str, ...]
    links: np.ndarray
    latency_ms: np.ndarray
    core_ms_per_bit: np.ndarray
    positions: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.silos)

    def index(self, silo: str) -> int:
        """Index of a silo by name; `InputError` when there is none."""
        if silo not in self.silos:
            raise InputError(f"{self.name} has no silo '{silo}': expected one of {', '.join(self.silos)}.")
        return self.silos.index(silo)


def open_network(source: str, core_bps: float | None = CORE_BPS) -> SiloNetwork:
    """Network by name, or from a file of links or delays.

    Parameters
    ----------
    source : str
        `gaia`, `amazon`, `random:N` or `random:N:SEED` (N silos strewn over a square), or a path.
    core_bps : float, optional
        Capacity of every link; None takes the edge attribute `capacity` (bit/s) of a file of links.

    Raises
    ------
    InputError
        No such network.
    DataError
        The file is broken; all its faults are named.
    """
    suffix = Path(source).suffix.lower()
    if core_bps is None and suffix not in FORMATS:
        raise InputError(
            f"expected a file of links ({', '.join(FORMATS)}) for its capacities, got '{source}': name bit/s."
        )
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
        known = f"{', '.join(BUILT_IN)}, random:N, or a file ({', '.join(FORMATS)}, .json)"
        raise InputError(f"no network '{source}': expected one of {known}.")
    if suffix in FORMATS:
        return read_network(path, core_bps)
    if suffix == ".json":
        return read_delays(path)
    raise InputError(f"{path} is neither {' nor '.join(FORMATS)} (links) nor .json (measured delays).")


def city_network(name: str, core_bps: float = CORE_BPS) -> SiloNetwork:
    """Built-in network `gaia` (11 silos) or `amazon` (22): every pair linked along the great circle."""
    cities = BUILT_IN[name]
    places = np.array(list(cities.values()))
    km = great_circle_km(places[:, ::-1])
    apart = 1.0 - np.eye(len(cities))
    latency = (MS_PER_KM * km + PAIR_MS) * apart
    links = np.argwhere(np.triu(apart))
    return SiloNetwork(name, tuple(cities), links, latency, apart * 1e3 / core_bps, places[:, ::-1])


def random_network(n: int, seed: int = 0, core_bps: float = CORE_BPS, side_km: float = 5000.0) -> SiloNetwork:
    """Random geometric network: `n` silos strewn over a square, linked when near; the radius grows until connected."""
    if not 3 <= n <= MOST_SILOS:
        raise InputError(f"expected 3 to {MOST_SILOS} silos in a random network, got {n}.")
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


def read_network(path: Path, core_bps: float | None = CORE_BPS) -> SiloNetwork:
    """Network of a file of links, see `links.read_links`.

    Latencies add up along a path; of distances 0.0085 ms/km do, and 4 ms come once per pair.
    With `core_bps` None the links have the file's `capacity`.

    Raises
    ------
    DataError
        See `read_links`.
    """
    links = read_links(path, core_bps is None)
    bps = np.full(len(links.ends), core_bps) if links.capacity_bps is None else links.capacity_bps
    total, core = _routes(len(links.silos), links.ends, links.length, 1e3 / bps)
    latency = total if links.measure == "latency" else _latency(total)
    notes = (*links.notes, *_odd_delays(latency))
    return SiloNetwork(path.stem, links.silos, links.ends, latency, core, links.positions, notes)


def read_delays(path: Path) -> SiloNetwork:
    """Network of a matrix that robots measured.

    JSON: `{"silos": [names], "delay_ms": n x n, "bandwidth_bps": n x n}`; `delay_ms[i][j]` is the time of a small
    message from i to j. Without `bandwidth_bps` only the access links bound the transfer.

    Raises
    ------
    DataError
        Not that JSON, another key, not square, or pairs that are missing, negative, beyond `links.MOST` or not a
        number; all such pairs are named.
    """
    expected = 'expected {"silos": [names], "delay_ms": rows}, and "bandwidth_bps": rows if links were measured'
    try:
        content = parse_json(path.read_bytes())
    except (ValueError, RecursionError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else e
        raise DataError(f"{path} is no delay matrix ({type(e).__name__}: {reason}): {expected}.") from None
    if not isinstance(content, dict) or not {"silos", "delay_ms"} <= content.keys():
        got = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path} is no delay matrix: {expected}, got {got[:120] or 'none of these'}.")
    if unknown := sorted(content.keys() - {"silos", "delay_ms", "bandwidth_bps"}):
        raise DataError(f"{path}: '{unknown[0]}' is not known, and would be left out: {expected}.")
    silos = content["silos"]
    if not isinstance(silos, list) or not all(isinstance(s, (str, int)) and str(s).strip() for s in silos):
        raise DataError(f"{path}: 'silos' needs a list of names, got {str(silos)[:80]}.")
    silos = tuple(map(str, silos))
    n = len(silos)
    if n < 2 or len(set(silos)) < n:
        raise DataError(f"{path}: 'silos' needs two names or more, each once; got {', '.join(silos) or 'none'}.")

    def matrix(key: str, measure: str) -> np.ndarray:
        rows = content[key]
        if not isinstance(rows, list) or [len(r) if isinstance(r, list) else -1 for r in rows] != [n] * n:
            raise DataError(f"{path}: '{key}' needs {n} rows of {n} numbers, one for each of 'silos'.")
        least, most = (0 if measure == "latency" else 1), MOST[measure]
        bad = [
            f"{key} from {silos[i]} to {silos[j]} is {repr(v)[:40]}"
            for i, row in enumerate(rows)
            for j, v in enumerate(row)
            if i != j and not (type(v) in (int, float) and least <= v <= most)
        ]
        if bad:
            more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError(
                f"{path}: {'; '.join(bad[:SHOWN])}{more}: expected {least} to {most:g} {UNITS[measure]}. Measure "
                f"{'this pair' if len(bad) == 1 else 'these pairs'} again, or leave out a robot of each: every pair "
                "has to reach each other."
            )
        return np.array([[0.0 if i == j else float(rows[i][j]) for j in range(n)] for i in range(n)])

    delay = matrix("delay_ms", "latency")
    notes = _odd_delays(delay)
    core = np.zeros((n, n))
    if content.get("bandwidth_bps") is not None:
        bps = matrix("bandwidth_bps", "capacity") + np.eye(n)
        core = 1e3 / bps * (1 - np.eye(n))
        if bps.max() < SLOW_BPS:
            notes += (
                f"no pair has more than {bps.max():g} bit/s: if the file has kbit/s, Mbit/s or Gbit/s, write bit/s",
            )
    return SiloNetwork(path.stem, silos, np.argwhere(np.triu(np.ones((n, n)), 1)), delay, core, notes=notes)


def _odd_delays(latency_ms: np.ndarray) -> tuple[str, ...]:
    """What delays look like that are in another unit."""
    apart = latency_ms[~np.eye(len(latency_ms), dtype=bool)]
    if 0 < apart.max() < 0.02:
        return (f"no delay is longer than {apart.max():g} ms: if the file has seconds, write milliseconds",)
    if apart.min() > 1000:
        return (f"no delay is shorter than {apart.min():g} ms: if the file has microseconds, write milliseconds",)
    return ()


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
    with needs("Routes over links"):
        import scipy.sparse  # noqa: F401
