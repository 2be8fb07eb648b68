"""The bond with Nav2's lifecycle manager: a node that a manager activated says that it lives, and when it ends."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("bond.msg")

from bond.msg import Status
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from edgeflock_ros.nodes import KEPT


@pytest.fixture
def managed(graph, tmp_path):
    """A guard of a launch that a manager configures and activates."""
    graph.env[KEPT] = str(tmp_path)
    graph.guard = graph.start("guard_node", autostart=False)
    graph.said = graph.listen(Status, "bond")
    graph.manager = graph.node.create_publisher(Status, "bond", 5)
    change(graph, Transition.TRANSITION_CONFIGURE)
    change(graph, Transition.TRANSITION_ACTIVATE)
    return graph


def change(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert graph.call(ChangeState, "/guard/change_state", request).success


def beats(graph, instance=""):
    """Ids under which the guard says more than twice that it is alive, but for one."""
    said = [s.instance_id for _, s in graph.said if s.id == "guard" and s.active]
    return {name for name in said if said.count(name) > 2} - {instance, "manager", "earlier"}


def ended(graph, instance):
    return any(s.instance_id == instance and not s.active for _, s in graph.said)


def test_each_activation_is_a_bond_of_its_own_that_ends_with_it(managed):
    assert managed.until(lambda: beats(managed))
    (first,) = beats(managed)
    change(managed, Transition.TRANSITION_DEACTIVATE)
    assert managed.until(lambda: ended(managed, first))
    change(managed, Transition.TRANSITION_ACTIVATE)
    assert managed.until(lambda: beats(managed, first))
    (second,) = beats(managed, first)
    managed.guard.terminate()
    assert managed.until(lambda: ended(managed, second))
    kept = managed.folder / "guard.json"
    assert not kept.exists() or "autostart" not in kept.read_text()  # it is the manager who activates the next one


def test_the_last_word_of_its_manager_is_answered_and_that_of_an_earlier_one_is_not(managed):
    def say(instance, active):
        managed.manager.publish(Status(id="guard", instance_id=instance, active=active))

    assert managed.until(lambda: beats(managed))
    (own,) = beats(managed)
    assert managed.until(lambda: managed.manager.get_subscription_count() == 2)
    say("earlier", False)
    say("manager", True)
    count = len(managed.said)
    assert managed.until(lambda: sum(s.instance_id == own for _, s in managed.said[count:]) > 3)
    assert not ended(managed, own)
    say("manager", False)
    assert managed.until(lambda: ended(managed, own))
    last = next(i for i, (_, s) in enumerate(managed.said) if s.instance_id == own and not s.active)
    change(managed, Transition.TRANSITION_DEACTIVATE)  # its answer comes after whatever the bond would still say
    assert not any(s.instance_id == own and s.active for _, s in managed.said[last:])
