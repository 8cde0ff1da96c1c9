"""The change itself: cordon, empty the node, set the label, follow the MIG manager, uncordon.

Each step looks at the node and does only what is not done yet, so that another run goes on wherever one was ended.
Nothing makes the node schedulable again before the manager has said success and the node offers what the layout makes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.cluster_api import ClusterApi, Json
from hub.discover.finding import plain
from hub.mig.drain import Drain
from hub.mig.holder import Holder
from hub.mig.hub_api import HubAccess
from hub.mig.names import BUSY, CONFIG, STATE
from hub.mig.occupants import Occupant
from hub.mig.patience import Say
from hub.mig.plan import Plan, offered_text, who_stops
from hub.mig.record import Record
from hub.mig.view import View, occupants_on, pods_on

__all__ = ["Change", "Failed", "Occupied"]

_LOOK_S = 1.0
_SETTLE_S = 3.0


class Occupied(Exception):
    """Sessions or other pods have the node's cards, and nobody said that they may be stopped; the text lists them."""


class Failed(Exception):
    """It did not work; the node stays cordoned. The text says what to look at and how to go back."""


@dataclass(frozen=True)
class Change:
    """One change of one node.

    Parameters
    ----------
    plan
        What is to be done, as it was shown.
    drain
        Whether who is there may be stopped, after `grace_s` seconds.
    timeout_s
        How long the manager may take, and who is stopped to end.
    """

    api: ClusterApi
    plan: Plan
    holder: Holder
    say: Say
    drain: bool
    grace_s: float
    timeout_s: float
    hub: HubAccess | None = None

    @property
    def view(self) -> View:
        return self.plan.view

    @property
    def node(self) -> str:
        return self.view.name

    def run(self) -> None:
        """Return when the node has the layout.

        Raises
        ------
        Occupied
            Somebody is there; nothing was changed.
        Taken, Lost
            Another run works on the node.
        NotDrained, Failed
            It did not work.
        """
        node = self.holder.take(self.plan.wanted, cordon=True)
        record = self.holder.own(node)
        self.say(f"{self.node} is cordoned{' as it was before' if record.cordoned else ''}.")
        if self._must_label(node):
            self._empty()
            self._wait_for_manager()
            self._label()
        self._follow()
        self._finish()

    # --- who is there --------------------------------------------------------------------------------------------

    def _stops(self) -> tuple[Occupant, ...]:
        manager = self.view.manager
        return who_stops(occupants_on(self.api, pods_on(self.api, self.node), manager), manager)

    def _empty(self) -> None:
        there = self._stops()
        if there and not self.drain:
            self._undo()
            raise Occupied("; ".join(map(str, there)))
        Drain(
            self.api, self.node, self.plan.wanted, self.holder, self._stops, self.hub, self.say, self.timeout_s
        ).run(self.grace_s)  # fmt: skip

    def _undo(self) -> None:
        """Leave no trace, unless an earlier run has begun what must be finished first."""

        def undone(node: Json, record: Record) -> tuple[Record | None, Mapping[str, Any]]:
            return (record.but(holder=""), {}) if record.asked else (None, _schedulable(record))

        self.holder.change(undone)

    # --- the label -----------------------------------------------------------------------------------------------

    def _must_label(self, node: Json) -> bool:
        """Whether the manager has yet to be asked: it acts when the label's value changes, and only then."""
        labels, record = _labels(node), self.holder.own(node)
        state = labels.get(STATE, "")
        if labels.get(CONFIG) != self.plan.wanted or state == "failed":
            return True
        if state == "success":
            return not (record.asked == self.plan.wanted or self.plan.reached(node))
        return False

    def _wait_for_manager(self) -> None:
        """A change that is under way is not disturbed; what it says at its end must not be taken for an answer to
        ours.
        """
        until = time.monotonic() + self.timeout_s
        told = False
        while (state := _labels(self.holder.alive()).get(STATE, "")) in BUSY:
            if not told:
                self.say(f"The MIG manager is busy with an earlier change ({state}); this one waits for its end.")
                told = True
            if time.monotonic() > until:
                raise Failed(f"The MIG manager has said {state} for {self.timeout_s:.0f} s. {self._what_now()}")
            time.sleep(_LOOK_S)

    def _label(self) -> None:
        wanted = self.plan.wanted

        def cleared(node: Json, record: Record) -> tuple[Record, Mapping[str, Any]]:
            return record, {"metadata": {"labels": {CONFIG: None, STATE: None}}}

        def labelled(node: Json, record: Record) -> tuple[Record, Mapping[str, Any]]:
            # The state of the layout before must not be read as one of this.
            return record.but(asked=wanted), {"metadata": {"labels": {CONFIG: wanted, STATE: None}}}

        if _labels(self.holder.alive()).get(CONFIG) == wanted:
            self.holder.change(cleared)
            self.say(
                f"The label {CONFIG} was {wanted} already: it is removed first, so that the manager sees a change."
            )
            time.sleep(_SETTLE_S)
        self.holder.change(labelled)
        self.say(f"The label {CONFIG} of {self.node} is now {wanted}.")

    # --- the manager ---------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Wait for success, and for the device plugin, which starts anew only then."""
        began = time.monotonic()
        shown = None
        while True:
            node = self.holder.alive()
            labels = _labels(node)
            state, asked = labels.get(STATE, ""), labels.get(CONFIG, "")
            if asked != self.plan.wanted:
                raise Failed(f"Somebody changed the label {CONFIG} to {plain(asked) or 'nothing'}. {self._what_now()}")
            if state != shown:
                self.say(self._progress(state, time.monotonic() - began))
                shown = state
            if state == "failed":
                raise Failed(f"The MIG manager could not do it. {self._what_now()}")
            if state == "success" and self.plan.reached(node):
                self.say(f"{self.node} offers {offered_text(node)}.")
                return
            if time.monotonic() - began > self.timeout_s:
                raise Failed(self._too_late(node, state))
            time.sleep(_LOOK_S)

    def _progress(self, state: str, after_s: float) -> str:
        if not state:
            return f"The MIG manager of {self.node} has said nothing yet."
        more = "; the device plugin's offer is waited for" if state == "success" else ""
        return f"The MIG manager of {self.node} says {plain(state)} after {after_s:.0f} s{more}."

    def _too_late(self, node: Json, state: str) -> str:
        if state == "success":
            wanted = self.plan.layout or "something of NVIDIA's"
            what = f"it says success, but the node offers {offered_text(node)}, not {wanted}"
        else:
            what = f"the MIG manager says {plain(state) or 'nothing'}"
        return f"After {self.timeout_s:.0f} s {what}. {self._what_now()}"

    def _what_now(self) -> str:
        manager, previous = self.view.manager, self.holder.previous or "all-disabled"
        log = f"Look at `kubectl logs -n {manager.namespace} {manager.name}`" if manager else "Look at its log"
        return (
            f"{self.node} stays cordoned. {log}, then try again, or go back with "
            f"`armillary mig apply {self.node} --layout {previous}`."
        )

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Make the node schedulable again if this change cordoned it, in the same write that forgets the change."""

        def finished(node: Json, record: Record) -> tuple[Record | None, Mapping[str, Any]]:
            labels = _labels(node)
            if labels.get(CONFIG) != self.plan.wanted or labels.get(STATE) != "success" or not self.plan.reached(node):
                raise Failed(f"The node changed again after it was ready. {self._what_now()}")
            return None, _schedulable(record)

        node = self.holder.change(finished)
        kept = bool((node.get("spec") or {}).get("unschedulable"))
        text = "It stays cordoned, as it was before" if kept else "It takes pods again"
        self.say(f"{self.node} has the layout {self.plan.wanted}. {text}.")


def _labels(node: Mapping[str, Any]) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _schedulable(record: Record) -> Mapping[str, Any]:
    return {} if record.cordoned else {"spec": {"unschedulable": None}}
