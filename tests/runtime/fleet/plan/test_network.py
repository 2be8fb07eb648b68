"""Networks: built in, from links, from what robots measured; and what is said about bad files."""

import json

import networkx
import numpy as np
import pytest

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.plan.network import city_network, open_network, random_network, read_delays, read_network


def gml(tmp_path, edges, nodes="abcd", extra=""):
    """A .gml file; edges as (source, target, "attribute value ...")."""
    text = f"graph [ {extra}\n"
    text += "".join(f'  node [ id {i} label "{name}" ]\n' for i, name in enumerate(nodes))
    text += "".join(f"  edge [ source {i} target {j} {what} ]\n" for i, j, what in edges)
    return written(tmp_path / "net.gml", (text + "]\n").encode())


def written(path, content):
    path.write_bytes(content)
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
    ours, theirs = city_network(name), read_network(networks / file)
    far = theirs.latency_ms > 0
    assert ours.latency_ms[far] == pytest.approx(theirs.latency_ms[far], rel=0.01)


def test_latency_and_time_per_bit_add_up_along_the_shortest_path(tmp_path):
    net = read_network(gml(tmp_path, LINE), core_bps=1e9)
    assert net.latency_ms[0, 3] == pytest.approx(0.0085 * 600 + 4)
    assert net.core_ms_per_bit[0, 3] == pytest.approx(3e-6)
    assert np.array_equal(net.latency_ms, net.latency_ms.T) and not net.latency_ms.diagonal().any()


def test_among_equally_short_paths_the_one_of_fewest_links_is_taken(tmp_path):
    edges = [(0, 1, "distance 0"), (1, 2, "distance 0"), (2, 3, "distance 5"), (0, 3, "distance 5")]
    net = read_network(gml(tmp_path, edges))
    assert net.core_ms_per_bit[0, 3] == pytest.approx(1e-6)


def test_measured_latency_goes_before_distance_and_adds_no_constant(tmp_path):
    edges = [(i, j, f"{what} latency {n + 1}.5") for n, (i, j, what) in enumerate(LINE)]
    assert read_network(gml(tmp_path, edges)).latency_ms[0, 3] == pytest.approx(1.5 + 2.5 + 3.5)


def test_the_capacities_of_the_file_count_when_asked_for(tmp_path):
    edges = [(i, j, f"{what} capacity {c}") for (i, j, what), c in zip(LINE, (1e9, 5e8, 1e8), strict=True)]
    net = read_network(gml(tmp_path, edges), core_bps=None)
    assert net.core_ms_per_bit[0, 3] == pytest.approx(1e3 * (1e-9 + 2e-9 + 1e-8))


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        (LINE[:2], ["not connected but in 2 parts", "from d to a", "Add the missing edges, or remove d"]),
        ([*LINE[:2], (2, 3, "distance -3")], ["edge c - d", "distance -3", "from 0 up"]),
        ([*LINE[:2], (2, 3, "")], ["edge c - d", "no 'distance'", "`distance NUMBER`"]),
        ([*LINE[:2], (2, 3, 'distance "far"')], ["edge c - d", "'far'"]),
        ([*LINE[:2], (2, 3, "latency 9")], ["edge c - d", "no 'distance', which 2 of 3 edges have", "it has latency"]),
        ([*LINE[:2], (2, 3, "delay 9")], ["edge c - d", "no 'distance'", "it has delay"]),
        ([*LINE[:2], (2, 3, "distance 1.0E308")], ["edge c - d", "up to 1e+06 (km)"]),
        ([*LINE[:1], (1, 2, ""), (2, 3, "distance -1")], ["edge b - c has no", "edge c - d has distance -1"]),
    ],
)
def test_a_bad_file_is_named_with_its_edge_and_the_mend(edges, said, tmp_path):
    path = gml(tmp_path, edges)
    with pytest.raises(DataError) as error:
        read_network(path)
    assert all(text in str(error.value) for text in [str(path), *said])


def test_a_file_without_capacity_says_so_when_capacities_are_asked_for(tmp_path):
    with pytest.raises(DataError, match="edge a - b has no 'capacity'"):
        read_network(gml(tmp_path, LINE), core_bps=None)


@pytest.mark.parametrize("case", ["directed", "text", "one node", "empty", "xml"])
def test_files_that_are_no_network_are_refused(case, tmp_path):
    path = {
        "directed": lambda: gml(tmp_path, LINE, extra="directed 1"),
        "text": lambda: gml(tmp_path, LINE, extra="] nonsense ["),
        "one node": lambda: gml(tmp_path, [], nodes="a"),
        "empty": lambda: written(tmp_path / "net.gml", b""),
        "xml": lambda: written(tmp_path / "net.graphml", b"<graphml><graph>"),
    }[case]()
    with pytest.raises(DataError, match=str(path)):
        read_network(path)


PLACES = {"a": (-74.0, 40.7), "b": (-87.65, 41.85), "c": (-77.04, 38.9), "d": (-122.3, 47.6)}


def placed(tmp_path, edges, labels=tuple(PLACES), known=tuple(PLACES), extra=""):
    """A .gml file as the Topology Zoo has them: nodes with coordinates, edges without lengths."""
    text = f"graph [ {extra}\n"
    for i, (label, (node, (lon, lat))) in enumerate(zip(labels, PLACES.items(), strict=True)):
        where = f"Longitude {lon} Latitude {lat}" if node in known else ""
        text += f'  node [ id {i} label "{label}" {where} ]\n'
    text += "".join(f'  edge [ source {i} target {j} LinkLabel "OC-3" ]\n' for i, j in edges)
    return written(tmp_path / "zoo.gml", (text + "]\n").encode())


CHAIN = [(0, 1), (1, 2), (2, 3)]


def test_a_distance_that_is_missing_is_that_between_the_nodes_coordinates(tmp_path):
    net = read_network(placed(tmp_path, CHAIN))
    assert net.latency_ms[0, 1] == pytest.approx(0.0085 * 1145 + 4, abs=0.05)  # New York to Chicago: about 1,145 km
    assert net.notes == ("the distance of 3 of 3 edges is that between the nodes' coordinates",)
    assert net.positions == pytest.approx(np.array(list(PLACES.values())))


def test_a_node_without_coordinates_is_amid_its_neighbours_and_said_to_be(tmp_path):
    net = read_network(placed(tmp_path, CHAIN, known="acd"))
    between = read_network(placed(tmp_path, [(0, 2), (1, 2), (2, 3)])).latency_ms[0, 2] - 4
    assert net.latency_ms[0, 1] == pytest.approx(4 + between / 2, abs=0.01)
    assert "without Longitude and Latitude, taken to be amid their neighbours: b" in net.notes


def test_coordinates_that_are_no_degrees_are_refused_by_their_node(tmp_path, monkeypatch):
    monkeypatch.setitem(PLACES, "c", (0.0, 3890.0))
    with pytest.raises(DataError, match="node c is at Longitude 0, Latitude 3890"):
        read_network(placed(tmp_path, CHAIN))


def test_nodes_of_one_label_are_told_apart_by_their_id(tmp_path):
    net = read_network(placed(tmp_path, CHAIN, labels=("None", "x", "None", "")))
    assert net.silos == ("None (0)", "x", "None (2)", "node 3")
    assert "nodes of one label are told apart by their id: None" in net.notes


@pytest.mark.parametrize("extra", ["", "multigraph 1", "directed 0 multigraph 1"])
def test_parallel_links_are_one_the_shortest(extra, tmp_path):
    net = read_network(gml(tmp_path, [*LINE, (1, 0, "distance 30"), (0, 1, "distance 900")], extra=extra))
    assert len(net.links) == 3 and net.latency_ms[0, 1] == pytest.approx(0.0085 * 30 + 4)
    assert net.notes == ("parallel links are one, the shortest: 3 links of 5 edges",)


def test_of_parallel_links_of_one_length_the_widest_is_taken(tmp_path):
    edges = [(0, 1, "distance 5 capacity 1000000"), (0, 1, "distance 5 capacity 2000000")]
    net = read_network(gml(tmp_path, edges, nodes="ab"), core_bps=None)
    assert net.core_ms_per_bit[0, 1] == pytest.approx(1e3 / 2e6)


def test_both_ways_of_a_directed_link_are_one_and_one_way_alone_is_refused(tmp_path):
    both = [*LINE, *((j, i, what) for i, j, what in LINE)]
    assert len(read_network(gml(tmp_path, both, extra="directed 1")).links) == 3
    with pytest.raises(DataError, match=r"edge a - b goes one way.*or write directed 0"):
        read_network(gml(tmp_path, LINE, extra="directed 1"))


def test_a_link_of_a_silo_to_itself_is_left_out_and_said(tmp_path):
    net = read_network(gml(tmp_path, [*LINE, (1, 1, "distance 3")]))
    assert len(net.links) == 3 and net.notes == ("links of a silo to itself are left out: b",)


def test_where_nothing_is_said_of_lengths_every_link_is_taken_to_be_of_one(tmp_path):
    net = read_network(gml(tmp_path, [(i, j, "") for i, j, _ in LINE]))
    assert net.latency_ms[0, 1] == pytest.approx(0.0085 * 100 + 4)
    assert "every link is taken to be 100 km long" in net.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_files_of_other_editors_are_read(encoding, tmp_path):
    text = gml(tmp_path, LINE, nodes=["Zürich", "b", "c", "d"]).read_text("utf-8")
    path = written(tmp_path / "NET.GML", text.encode(encoding))
    assert open_network(str(path)).silos[0] == "Zürich"
    marked = written(tmp_path / "D.JSON", delays(tmp_path).read_text().encode("utf-8-sig"))
    assert len(open_network(str(marked))) == 3


def test_graphml_is_read_as_gml_is(tmp_path):
    graph = networkx.MultiGraph()
    for name, (lon, lat) in PLACES.items():
        graph.add_node(name, label=name, Longitude=lon, Latitude=lat)
    graph.add_edges_from([("a", "b"), ("b", "c"), ("c", "d"), ("a", "b")])
    networkx.write_graphml(graph, tmp_path / "net.graphml")
    net, same = open_network(str(tmp_path / "net.graphml")), read_network(placed(tmp_path, [*CHAIN, (0, 1)]))
    assert net.silos == same.silos and np.array_equal(net.latency_ms, same.latency_ms) and net.notes == same.notes


def test_a_file_in_another_unit_is_said_to_look_so(tmp_path):
    slow = [(i, j, f"{what} capacity 10000") for i, j, what in LINE]
    assert "write bit/s" in read_network(gml(tmp_path, slow), core_bps=None).notes[-1]
    seconds = [(i, j, "latency 0.004") for i, j, _ in LINE]
    assert "if the file has seconds" in read_network(gml(tmp_path, seconds)).notes[-1]
    rated = delays(tmp_path, bandwidth_bps=[[0, 50, 50], [50, 0, 10], [50, 10, 0]])
    assert "write bit/s" in read_delays(rated).notes[-1]


@pytest.mark.parametrize("name", ["Abilene", "Arpanet196912", "BtNorthAmerica", "Cesnet1997", "Garr201201"])
def test_files_of_the_topology_zoo_are_read_as_they_are(name, networks):
    net = read_network(networks / "zoo" / f"{name}.gml")
    assert len(set(net.silos)) == len(net) and np.isfinite(net.latency_ms).all() and (net.latency_ms >= 0).all()
    assert any("coordinates" in note for note in net.notes)


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
        (
            {"delay_ms": [[0, 3, 5], [4, 0, None], [5, 7, 0]]},
            "r2 to r3 is None: expected 0 to 3.6e.06 ms. Measure",
        ),
        ({"delay_ms": [[0, -3, 5], [4, 0, 6], [5, 7, 0]]}, "from r1 to r2 is -3"),
        ({"delay_ms": [[0, 3], [4, 0]]}, "3 rows of 3 numbers"),
        ({"silos": ["r1", "r1", "r3"]}, "each once"),
        ({"bandwidth_bps": [[0, 0, 1], [1, 0, 1], [1, 1, 0]]}, "bandwidth_bps from r1 to r2 is 0"),
        ({"delay_ms": [[0, -3, 5], [4, 0, True], [5, 7, 0]]}, "from r1 to r2 is -3; delay_ms from r2 to r3 is True"),
        ({"delay_ms": [[0, 1e308, 5], [4, 0, 6], [5, 7, 0]]}, r"from r1 to r2 is 1e\+308"),
        ({"delay_ms": [[0, "3", 5], [4, 0, 6], [5, 7, 0]]}, "from r1 to r2 is '3': expected 0 to"),
        ({"latency": 3}, "'latency' is not known"),
        ({"silos": "abc"}, "needs a list of names"),
    ],
)
def test_a_bad_matrix_names_the_pair_and_the_mend(content, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_delays(delays(tmp_path, **content))


def test_json_that_is_nested_without_end_is_refused(tmp_path):
    with pytest.raises(DataError, match="nested too deeply"):
        read_delays(written(tmp_path / "deep.json", b"[" * 100_000))


def test_random_networks_are_connected_and_repeat():
    one, again, other = random_network(60, 1), open_network("random:60:1"), random_network(60, 2)
    assert np.isfinite(one.latency_ms).all() and len(one.links) < 60 * 59 / 2
    assert np.array_equal(one.latency_ms, again.latency_ms) and not np.array_equal(one.latency_ms, other.latency_ms)


@pytest.mark.parametrize("source", ["nowhere", "random:x", "random:2", "random:9:1:1"])
def test_unknown_sources_say_what_there_is(source):
    with pytest.raises(InputError, match=r"expected|needs 3"):
        open_network(source)
