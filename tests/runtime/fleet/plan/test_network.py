"""Networks: built in, from links, from what robots measured; and what is said about bad files."""

import json

import numpy as np
import pytest

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.plan.network import city_network, open_network, random_network, read_delays, read_gml


def gml(tmp_path, edges, nodes="abcd", extra=""):
    """A .gml file; edges as (source, target, "attribute value ...")."""
    text = f"graph [ {extra}\n"
    text += "".join(f'  node [ id {i} label "{name}" ]\n' for i, name in enumerate(nodes))
    text += "".join(f"  edge [ source {i} target {j} {what} ]\n" for i, j, what in edges)
    path = tmp_path / "net.gml"
    path.write_text(text + "]\n")
    return path


LINE = [(0, 1, "distance 100"), (1, 2, "distance 200"), (2, 3, "distance 300")]


def test_a_built_in_network_links_every_pair_along_the_great_circle():
    gaia = open_network("gaia")
    assert len(gaia) == 11 and len(gaia.links) == 55
    i, j = gaia.index("Dublin"), gaia.index("Frankfurt")
    assert gaia.latency_ms[i, j] == pytest.approx(0.0085 * 1085 + 4, abs=0.1)  # about 1,085 km
    assert gaia.core_ms_per_bit[i, j] == 1e-6 and gaia.core_ms_per_bit[i, i] == 0
    assert len(open_network("amazon")) == 22 and len(open_network("amazon").links) == 231


@pytest.mark.parametrize(("name", "file"), [("gaia", "gaia.gml"), ("amazon", "amazon_us.gml")])
def test_the_built_in_networks_are_the_published_ones_within_a_hundredth(name, file, networks):
    ours, theirs = city_network(name), read_gml(networks / file)
    far = theirs.latency_ms > 0
    assert ours.latency_ms[far] == pytest.approx(theirs.latency_ms[far], rel=0.01)


def test_latency_and_time_per_bit_add_up_along_the_shortest_path(tmp_path):
    net = read_gml(gml(tmp_path, LINE), core_bps=1e9)
    assert net.latency_ms[0, 3] == pytest.approx(0.0085 * 600 + 4)
    assert net.core_ms_per_bit[0, 3] == pytest.approx(3e-6)
    assert np.array_equal(net.latency_ms, net.latency_ms.T) and not net.latency_ms.diagonal().any()


def test_among_equally_short_paths_the_one_of_fewest_links_is_taken(tmp_path):
    edges = [(0, 1, "distance 0"), (1, 2, "distance 0"), (2, 3, "distance 5"), (0, 3, "distance 5")]
    net = read_gml(gml(tmp_path, edges))
    assert net.core_ms_per_bit[0, 3] == pytest.approx(1e-6)


def test_measured_latency_goes_before_distance_and_adds_no_constant(tmp_path):
    edges = [(i, j, f"{what} latency {n + 1}.5") for n, (i, j, what) in enumerate(LINE)]
    assert read_gml(gml(tmp_path, edges)).latency_ms[0, 3] == pytest.approx(1.5 + 2.5 + 3.5)


def test_the_capacities_of_the_file_count_when_asked_for(tmp_path):
    edges = [(i, j, f"{what} capacity {c}") for (i, j, what), c in zip(LINE, (1e9, 5e8, 1e8), strict=True)]
    net = read_gml(gml(tmp_path, edges), core_bps=None)
    assert net.core_ms_per_bit[0, 3] == pytest.approx(1e3 * (1e-9 + 2e-9 + 1e-8))


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        (LINE[:2], ["not connected", "d", "Add the missing edge"]),
        ([*LINE, (1, 1, "distance 3")], ["edge b - b", "self loop", "Remove it"]),
        ([*LINE[:2], (2, 3, "distance -3")], ["edge c - d", "distance -3", "from 0 up"]),
        ([*LINE[:2], (2, 3, "")], ["edge c - d", "no 'distance'", "`distance NUMBER`"]),
        ([*LINE[:2], (2, 3, 'distance "far"')], ["edge c - d", "'far'"]),
        ([*LINE, (0, 1, "distance 3")], ["Mend the line"]),
    ],
)
def test_a_bad_file_is_named_with_its_edge_and_the_mend(edges, said, tmp_path):
    path = gml(tmp_path, edges)
    with pytest.raises(DataError) as error:
        read_gml(path)
    assert all(text in str(error.value) for text in [str(path), *said])


def test_a_file_without_capacity_says_so_when_capacities_are_asked_for(tmp_path):
    with pytest.raises(DataError, match="edge a - b has no 'capacity'"):
        read_gml(gml(tmp_path, LINE), core_bps=None)


@pytest.mark.parametrize("case", ["directed", "twice", "text", "one node"])
def test_files_that_are_no_network_are_refused(case, tmp_path):
    path = {
        "directed": lambda: gml(tmp_path, LINE, extra="directed 1"),
        "twice": lambda: gml(tmp_path, LINE, nodes="abca"),
        "text": lambda: gml(tmp_path, LINE, extra="] nonsense ["),
        "one node": lambda: gml(tmp_path, [], nodes="a"),
    }[case]()
    with pytest.raises(DataError, match=str(path)):
        read_gml(path)


def delays(tmp_path, **content):
    path = tmp_path / "delays.json"
    path.write_text(json.dumps({"silos": ["r1", "r2", "r3"], "delay_ms": [[0, 3, 5], [4, 0, 6], [5, 7, 0]]} | content))
    return path


def test_a_measured_matrix_is_taken_as_it_is_also_where_the_ways_differ(tmp_path):
    net = open_network(str(delays(tmp_path)))
    assert net.silos == ("r1", "r2", "r3") and net.latency_ms[0, 1] == 3 and net.latency_ms[1, 0] == 4
    assert not net.core_ms_per_bit.any()
    rated = read_delays(delays(tmp_path, bandwidth_bps=[[0, 5e6, 5e6], [5e6, 0, 1e6], [5e6, 1e6, 0]]))
    assert rated.core_ms_per_bit[1, 2] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"delay_ms": [[0, 3, 5], [4, 0, None], [5, 7, 0]]}, "from r2 to r3 is None. Measure this pair again"),
        ({"delay_ms": [[0, -3, 5], [4, 0, 6], [5, 7, 0]]}, "from r1 to r2 is -3"),
        ({"delay_ms": [[0, 3], [4, 0]]}, "3 rows of 3 numbers"),
        ({"silos": ["r1", "r1", "r3"]}, "each once"),
        ({"bandwidth_bps": [[0, 0, 1], [1, 0, 1], [1, 1, 0]]}, "bandwidth_bps from r1 to r2 is 0"),
    ],
)
def test_a_bad_matrix_names_the_pair_and_the_mend(content, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_delays(delays(tmp_path, **content))


def test_random_networks_are_connected_and_repeat():
    one, again, other = random_network(60, 1), open_network("random:60:1"), random_network(60, 2)
    assert np.isfinite(one.latency_ms).all() and len(one.links) < 60 * 59 / 2
    assert np.array_equal(one.latency_ms, again.latency_ms) and not np.array_equal(one.latency_ms, other.latency_ms)


@pytest.mark.parametrize("source", ["nowhere", "random:x", "random:2", "random:9:1:1"])
def test_unknown_sources_say_what_there_is(source):
    with pytest.raises(InputError, match=r"expected|needs 3"):
        open_network(source)
