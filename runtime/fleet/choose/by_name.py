"""A plan from names: what the command line and a robot's parameters say."""

from __future__ import annotations

from pathlib import Path

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import parse_json
from edgeflock.runtime.fleet.choose.paced_mesh import paced_mesh
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.network import SiloNetwork
from edgeflock.runtime.fleet.plan.schedule import Plan, canonical, make_plan
from edgeflock.runtime.fleet.plan.tours import christofides_tour, improved_tour


def find_tour(kind: str, network: SiloNetwork, delays: Delays) -> list[int]:
    """Order of the ring.

    Parameters
    ----------
    kind : str
        `improved`, `christofides`, or a JSON file: a list of silos (names, or indices in the network's order), or an
        object that holds such a list under the network's name.
    """
    if kind == "improved":
        return improved_tour(delays.pairs)
    if kind == "christofides":
        return christofides_tour(delays.pairs)
    try:
        content = parse_json(Path(kind).read_bytes())
        tour = content[network.name] if isinstance(content, dict) else content
        order = [network.index(silo) if isinstance(silo, str) else int(silo) for silo in tour]
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise DataError(
            f"{kind} has no tour of {network.name} ({type(e).__name__}: {e}). Expected 'improved', 'christofides', or "
            "a JSON file with a list of silos, or with such a list under the network's name."
        ) from e
    if sorted(order) != list(range(len(network))):
        raise DataError(f"{kind}: a tour of {network.name} visits each of its {len(network)} silos once.")
    return order


def plan_by_name(network: SiloNetwork, delays: Delays, t: int, base: str, tour: str = "improved") -> Plan:
    """Multigraph plan of a network's silos on an overlay by name (`schedule.BASES` or `paced_mesh`).

    Parameters
    ----------
    network, delays : SiloNetwork, Delays
    t : int
        Largest period.
    base : str
    tour : str
        Of a ring, as for `find_tour`.

    Raises
    ------
    InputError
        No such base, t is below 1, or a tour is named and the base is no ring.
    """
    if base != "ring" and tour != "improved":
        raise InputError(f"--tour orders a ring, and --base is '{base}': leave one of them out.")
    if base == "paced_mesh":
        names, in_order, _ = canonical(network.silos, delays)
        return paced_mesh(names, in_order, t)
    return make_plan(network.silos, delays, t, base if tour == "improved" else find_tour(tour, network, delays))
