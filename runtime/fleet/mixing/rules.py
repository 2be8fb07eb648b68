"""Mixing (DPASGD): what a silo's model becomes when its neighbours' arrive.

In every round, counted from 1, a silo trains its own model; then, over each edge that the plan makes strong in this
round, it mixes in a neighbour's. Over an edge of period p that is the neighbour's model of round `k - p + 1`, after its
training and before its mixing: the transfer took the rounds in between. Where every edge has its reverse of the same
period (a mutual plan), both ends add the weighted difference of their two models of that round, which keeps the mean of
all models exactly; elsewhere a silo takes a share of the old model and gives up as much of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.fdla import fdla
from edgeflock.runtime.fleet.plan.schedule import Plan

KEEPS = {"half": 0.5, "authors": 0.7}
RULES = {
    "half": "keep 1/2, share the other half among the neighbours heard; a directed ring's (I + P) / 2",
    "authors": "keep 0.7, share 0.3: the code of the multigraph post",
    "push_sum": "split model and mass among the silos sent to; the model is their quotient (directed or not)",
    "metropolis": "1 / (1 + larger degree) each way; mutual plans",
    "fdla": "the symmetric weights that agree fastest, per state; mutual plans",
    "server": "the hub takes all models and gives the mean back; a star of period 1",
}
"""Weight rules by name."""


class Combine(Protocol):
    """How a silo puts its own model and its neighbours' together, in place of the weighted mean (`robust`)."""

    @property
    def least(self) -> int:
        """Neighbours without which a silo keeps its own model."""

    def __call__(self, own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mixed model (d,) of the own (d,) and the neighbours' (m, d), with the plan's weights (m,)."""


def fits(plan: Plan, rule: str) -> bool:
    """Whether a plan has what a rule needs: `server` a star of period 1, the symmetric rules every edge both ways."""
    if rule == "server":
        return plan.base == "star" and plan.states == 1
    return plan.mutual or rule not in ("metropolis", "fdla")


def default_rule(plan: Plan) -> str:
    """`server` on a plain star, `metropolis` on mutual plans, else `half`."""
    if fits(plan, "server"):
        return "server"
    return "metropolis" if plan.mutual else "half"


class Mixing:
    """A plan with a rule for its weights. It holds no models: the same for one silo and for a simulator of all.

    What a silo carries from round to round is its state: `begin` makes it, `trained` takes a training step into it,
    `mix` and `mix_all` exchange states, and `model` is what trains and drives. Only push-sum's state is more than the
    model. States are arrays (..., d'), of one silo or of all.

    Parameters
    ----------
    plan : Plan
        Who hears whom, when.
    rule : str, optional
        One of `RULES`; `default_rule` when left out.
    robust : Combine, optional
        Puts models together instead of the weighted mean. In rounds that bring a silo fewer than `robust.least` models
        it keeps its own.
    stale : bool
        Whether a model counts as old as it is. False treats each as if it had come at once, as the literature's
        figures do.

    Raises
    ------
    InputError
        The rule does not fit the plan, or the robust rule could never work at some silo.
    """

    def __init__(self, plan: Plan, rule: str | None = None, robust: Combine | None = None, stale: bool = True) -> None:
        self.plan, self.rule, self.robust = plan, rule or default_rule(plan), robust
        if self.rule not in RULES:
            raise InputError(f"no mixing rule '{rule}': expected one of {', '.join(RULES)}.")
        if not fits(plan, self.rule):
            if self.rule == "server":
                raise InputError(f"'server' is for a star of period 1, not for {plan.base} with {plan.states} states.")
            raise InputError(
                f"'{self.rule}' needs every edge both ways with one period, and this {plan.base} is directed: take "
                "half, authors or push_sum, or a base such as mst or paced_mesh."
            )
        if robust is not None:
            self._check_robust(robust)
        self.by_server = self.rule == "server"
        self.hub = int(np.bincount(plan.edges[:, 0]).argmax())  # of a star
        self.differences = plan.mutual and self.rule not in ("push_sum", "server")
        self.age = plan.periods - 1 if stale else np.zeros_like(plan.periods)
        self._states: dict[bytes, np.ndarray] = {}

    def _check_robust(self, robust: Combine) -> None:
        if self.rule in ("push_sum", "server", "fdla"):
            reason = "its weights may be negative" if self.rule == "fdla" else "it moves sums, not models"
            raise InputError(f"no robust rule holds with '{self.rule}': {reason}. Take half or metropolis.")
        degree = np.bincount(self.plan.edges[:, 1], minlength=self.plan.n)
        if degree.min() < robust.least:
            silo = self.plan.roster[int(degree.argmin())]
            raise InputError(
                f"{robust} needs {robust.least} neighbours and {silo} hears {degree.min()}: it would never mix. Take "
                "Clipping with a radius, a smaller f, or a base with more neighbours."
            )

    def begin(self, model: np.ndarray) -> np.ndarray:
        """State of a silo whose model this is, (..., d) to (..., d'): push-sum puts a mass of 1 behind it."""
        if self.rule == "push_sum":
            return np.concatenate([model, np.ones_like(model[..., :1])], axis=-1)
        return model

    def trained(self, state: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """State after training took its model from `before` to `after`; `state` is left as it is.

        Push-sum adds the step to the sums: the model is only their quotient by the mass.
        """
        if self.rule == "push_sum":
            state = state.copy()
            state[..., :-1] += after - before
            return state
        return after

    def model(self, state: np.ndarray) -> np.ndarray:
        """Model (..., d) of a state (..., d')."""
        return state[..., :-1] / state[..., -1:] if self.rule == "push_sum" else state

    def average(self, states: np.ndarray) -> np.ndarray:
        """Model (d,) on which silos with these states (n, d') agree when they go on mixing without training."""
        return self.model(states.sum(axis=0)) if self.rule == "push_sum" else states.mean(axis=0)

    def weights(self, k: int) -> np.ndarray:
        """Share of the sender's model that the receiver of each edge gets in round k, 0 on weak edges: (m,)."""
        plan = self.plan
        strong = plan.strong(k)
        if self.rule == "push_sum":  # split when it was sent
            shares = np.zeros(len(plan.edges))
            for age in np.unique(self.age[strong]):
                e = strong & (self.age == age)
                shares[e] = 1 / (1 + self._sends(k - int(age))[plan.edges[e, 0]])
            return shares
        key = strong.tobytes()
        if key not in self._states:
            self._states[key] = np.where(strong, self._of_state(strong), 0.0)
        return self._states[key]

    def _of_state(self, strong: np.ndarray) -> np.ndarray:
        source, target = self.plan.edges.T
        degree = np.bincount(target[strong], minlength=self.plan.n)
        if self.rule in KEEPS:
            return (1 - KEEPS[self.rule]) / np.maximum(degree[target], 1)
        if self.rule == "metropolis":
            return 1 / (1 + np.maximum(degree[source], degree[target]))
        if self.rule == "fdla":
            return self._fdla(strong)
        return np.where(target == self.hub, 1 / self.plan.n, 1.0)

    def _fdla(self, strong: np.ndarray) -> np.ndarray:
        """FDLA of every connected part of a state."""
        edges, n = self.plan.edges, self.plan.n
        part = np.arange(n)
        for i, j in edges[strong].tolist():
            part[part == part[i]] = part[j]
        found = np.zeros((n, n))
        for name in np.unique(part[edges[strong, 0]]):
            members = np.flatnonzero(part == name)
            pairs = edges[strong & (part[edges[:, 0]] == name) & (edges[:, 0] < edges[:, 1])]
            found[pairs[:, 0], pairs[:, 1]] = fdla(len(members), np.searchsorted(members, pairs))
        return (found + found.T)[edges[:, 0], edges[:, 1]]

    def _sends(self, k: int) -> np.ndarray:
        """How many models each silo sends in round k: (n,)."""
        return np.bincount(self.plan.edges[(k + self.age) % self.plan.periods == 0, 0], minlength=self.plan.n)

    def receivers(self, k: int, silo: int) -> dict[int, int]:
        """Silos to which this one's state of round k goes, and in which round each mixes it.

        Under `server` the hub sends what it has *after* mixing.
        """
        e = np.flatnonzero(((k + self.age) % self.plan.periods == 0) & (self.plan.edges[:, 0] == silo))
        return {int(j): k + int(a) for j, a in zip(self.plan.edges[e, 1], self.age[e], strict=True)}

    def senders(self, k: int, silo: int) -> dict[int, int]:
        """Silos whose models this one mixes in round k, and of which round each model is."""
        e = np.flatnonzero(self.plan.strong(k) & (self.plan.edges[:, 1] == silo))
        return {int(j): k - int(a) for j, a in zip(self.plan.edges[e, 0], self.age[e], strict=True)}

    def share(self, k: int, sender: int, receiver: int) -> float:
        """Weight of the sender's state at the receiver in round k; 0 where nothing binds them."""
        e = np.flatnonzero((self.plan.edges == (sender, receiver)).all(axis=1))
        return float(self.weights(k)[e].sum())

    def still_needed(self, k: int) -> set[int]:
        """Rounds up to k whose models will be mixed after round k: keep these, as they were before mixing."""
        sent = k - (k + self.age) % self.plan.periods
        return set(sent[sent + self.age > k].tolist())

    def matrices(self, k: int) -> dict[int, np.ndarray]:
        """Change that round k makes, by age: mixed = models + sum over a of matrices[a] @ models of round k - a.

        Each is (n, n); together their rows sum to 0, but for push-sum, where columns and what is under way do.
        """
        n, (source, target) = self.plan.n, self.plan.edges.T
        if self.rule == "server":
            return {0: np.full((n, n), 1 / n) - np.eye(n)}
        weights = self.weights(k)
        bound = np.flatnonzero(weights)
        found = {int(a): np.zeros((n, n)) for a in {0, *self.age[bound].tolist()}}
        for a, matrix in found.items():
            e = bound[self.age[bound] == a]
            np.add.at(matrix, (target[e], source[e]), weights[e])
            given_up = np.bincount(target[e], weights[e], n)
            if self.rule != "push_sum":
                found[a if self.differences else 0].flat[:: n + 1] -= given_up
        if self.rule == "push_sum":
            found[0].flat[:: n + 1] -= 1 - 1 / (1 + self._sends(k))
        return found

    def mix(
        self,
        k: int,
        silo: int,
        own: Mapping[int, np.ndarray],
        received: Mapping[int, np.ndarray],
        sent: Mapping[int, np.ndarray] | None = None,
    ) -> np.ndarray:
        """State of one silo after round k.

        Parameters
        ----------
        k : int
            Round, from 1 up.
        silo : int
            Index in the plan's roster.
        own : mapping of int to ndarray, float32 (d,)
            Its states before mixing: of round k and, in mutual plans, of the rounds in `senders(k, silo)`.
        received : mapping of int to ndarray, float32 (d,)
            States by sender, each of the round that `senders(k, silo)` states; under `server` a silo gets the hub's
            *after* mixing. What is missing is skipped and its weight stays with the own model; the mean is kept
            if the other end skips the edge too. (Push-sum loses a missing model's mass with it: the mean moves.)
        sent : mapping of int to ndarray, float32 (d,), optional
            In mutual plans, by receiver: the own state of that round as a lossy codec brought it there. Both ends then
            take the difference of the same two models, so that no rounding moves the mean (CHOCO-SGD).

        Returns
        -------
        ndarray, float32 (d,)

        Raises
        ------
        InputError
            A model has another shape or type, or holds NaN or infinity; a sender is none of this round's.
        """
        now = _checked(own, k, None, "its own model")
        senders, sent = self.senders(k, silo), sent or {}
        if strangers := received.keys() - senders.keys():
            names = ", ".join(self.plan.roster[j] if 0 <= j < self.plan.n else str(j) for j in sorted(strangers))
            raise InputError(f"round {k} brings {self.plan.roster[silo]} no model of {names}.")
        heard, weights = [], []
        for j, round_ in senders.items():
            if j not in received:
                continue
            model = _checked(received, j, now.shape, f"the model of {self.plan.roster[j]}")
            if self.differences and (round_ != k or j in sent):
                then = sent[j] if j in sent else _checked(own, round_, now.shape, "its own model")
                model = now + (model - then)
            heard.append(model)
            weights.append(np.float32(self.share(k, j, silo)))
        if self.robust is not None:
            if len(heard) < self.robust.least:
                return now.copy()
            mixed = self.robust(now, np.stack(heard), np.array(weights))
        elif self.by_server and silo != self.hub:
            mixed = heard[0].copy() if heard else now.copy()
        else:
            mixed = now * np.float32(1 / (1 + self._sends(k)[silo])) if self.rule == "push_sum" else now.copy()
            for model, w in zip(heard, weights, strict=True):
                mixed += w * (model if self.rule == "push_sum" else model - now)
        return _checked({0: mixed}, 0, now.shape, "the mixed model")

    def mix_all(self, k: int, models: Mapping[int, np.ndarray]) -> np.ndarray:
        """States of all silos after round k, float32 (n, d): of every silo what `mix` gives it, bit for bit.

        Parameters
        ----------
        k : int
            Round, from 1 up.
        models : mapping of int to ndarray, float32 (n, d)
            By round, before mixing: of round k and of those that `still_needed(k - 1)` named.
        """
        now = _checked(models, k, None, "the models")
        if now.ndim != 2 or len(now) != self.plan.n:
            raise InputError(f"expected the models of {self.plan.n} silos, one a row; got the shape {now.shape}.")
        mixed = np.empty_like(now)
        order = range(self.plan.n)
        for i in sorted(order, key=lambda i: i != self.hub) if self.by_server else order:
            senders = self.senders(k, i)
            own = {r: _checked(models, r, now.shape, "the models")[i] for r in {k, *senders.values()}}
            after = self.by_server and i != self.hub
            mixed[i] = self.mix(k, i, own, {j: (mixed if after else models[r])[j] for j, r in senders.items()})
        return mixed


def _checked(models: Mapping[int, np.ndarray], at: int, shape: tuple[int, ...] | None, what: str) -> np.ndarray:
    if at not in models:
        raise InputError(f"{what} of round {at} is missing: keep the rounds that `still_needed` names.")
    model = models[at]
    if model.dtype != np.float32 or (shape is not None and model.shape != shape):
        expected = "float32" if shape is None else f"float32 of shape {shape}"
        raise InputError(f"{what} is {model.dtype} of shape {model.shape}: expected {expected}, flat, of the same net.")
    if not np.isfinite(model).all():
        raise InputError(f"{what} holds NaN or infinity: drop it and go on with the models that are sound.")
    return model
