"""Warns those who have a node's cards, waits until the announced time, and stops who is still there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from hub.cluster_api import Away, ClusterApi, Conflict, Forbidden, NotFound
from hub.mig.holder import Holder
from hub.mig.hub_api import HubAccess, HubProblem
from hub.mig.occupants import Occupant
from hub.mig.patience import Say
from hub.mig.record import told_of

__all__ = ["Drain", "NotDrained"]

_LOOK_S = 1.0
_AGAIN_S = 15.0


class NotDrained(Exception):
    """Somebody is still there; the text is a sentence."""


@dataclass(frozen=True)
class Drain:
    """What it takes to make a node empty.

    Parameters
    ----------
    occupants
        Returns who would have to stop, as it is now.
    hub
        Stops sessions of its namespace; the others, and all where there is none, end with their pod.
    timeout_s
        How long they may take to end once they were told to.
    """

    api: ClusterApi
    node: str
    layout: str
    holder: Holder
    occupants: Callable[[], tuple[Occupant, ...]]
    hub: HubAccess | None
    say: Say
    timeout_s: float

    def run(self, grace_s: float) -> None:
        """Return when nobody is there any more.

        Raises
        ------
        NotDrained
            Somebody is, after the time that they had.
        Lost
            Another run took the node over.
        """
        told: dict[str, datetime] = {}
        since: dict[str, float] = {}
        asked: dict[str, float] = {}
        while there := self.occupants():
            self._announce(there, told, grace_s)
            due = [one for one in there if told[one.uid] <= datetime.now(UTC)]
            for one in due:
                since.setdefault(one.uid, time.monotonic())
                if time.monotonic() - asked.get(one.uid, -_AGAIN_S) >= _AGAIN_S:
                    self.holder.alive()  # whoever was taken over stops nobody any more
                    asked[one.uid] = time.monotonic()
                    self._stop_one(one)
            self.holder.alive()
            late = [one for one in due if time.monotonic() - since[one.uid] > self.timeout_s]
            if late:
                raise NotDrained(f"Still there after {self.timeout_s:.0f} s: {_listed(late)}.")
            time.sleep(_LOOK_S)
        if told:
            self.say(f"Nobody has a card of {self.node} any more.")

    def _announce(self, there: Iterable[Occupant], told: dict[str, datetime], grace_s: float) -> None:
        """Tell those who are not told yet: the time that an earlier run told them, else one after the whole grace.

        Remembered only once they are told, so that nobody is stopped at a time that was told to others.
        """
        new = [one for one in there if one.uid not in told]
        if not new:
            return
        before = told_of(self.holder.alive())
        for one in new:
            told[one.uid] = before.get(one.uid) or datetime.now(UTC) + timedelta(seconds=grace_s)
            self._tell(one, told[one.uid])
        if any(one.uid not in before for one in new):
            here = {one.uid: told[one.uid] for one in there}
            self.holder.change(lambda _, record: (record.but(told=here), {}))

    def _tell(self, one: Occupant, stop_at: datetime) -> None:
        when = f"{stop_at:%Y-%m-%d %H:%M:%S} UTC"
        self.say(f"Stops at {when}: {one}.")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"The cards of node {self.node} get another layout ({self.layout}): this pod is stopped at {when}."
        digest = sha256(f"{one.uid} {when}".encode()).hexdigest()[:12]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{one.name[:200]}.mig-{digest}", "namespace": one.namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": one.name, "namespace": one.namespace, "uid": one.uid,
            },
            "type": "Warning",
            "reason": "MigLayoutChange",
            "message": text,
            "source": {"component": "armillary-mig"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }  # fmt: skip
        try:
            self.api.create(f"/api/v1/namespaces/{quote(one.namespace, safe='')}/events", event)
        except Conflict:
            return  # an earlier run told them
        except (Forbidden, NotFound) as problem:
            self.say(f"No event could be made for it: {problem}")

    def _stop_one(self, one: Occupant) -> None:
        if one.session and self.hub is not None and one.namespace == self.hub.namespace and one.user:
            try:
                self.hub.stop(one.user, one.server)
            except HubProblem as problem:
                self.say(f"{_capital(one)} is ended by deleting its pod, since {problem}.")
            else:
                self.say(f"The hub was asked to stop {one}.")
                return
        elif one.session:
            self.say(f"{_capital(one)} is ended by deleting its pod.")
        self._remove(one)

    def _remove(self, one: Occupant) -> None:
        """End a pod with the time that it asks for: of a session by deletion, of others as a drain does, by eviction,
        which a PodDisruptionBudget may put off.
        """
        path = f"/api/v1/namespaces/{quote(one.namespace, safe='')}/pods/{quote(one.name, safe='')}"
        same = {"preconditions": {"uid": one.uid}}
        try:
            if one.session:
                self.api.delete(path, same)
                return
            eviction = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": one.name, "namespace": one.namespace},
                "deleteOptions": same,
            }
            self.api.create(f"{path}/eviction", eviction)
            self.say(f"Evicted: {one}.")
        except (NotFound, Conflict):
            return  # it is gone, or another one has its name by now
        except Away as problem:
            if problem.status != 429:
                raise
            self.say(f"A PodDisruptionBudget does not allow it yet: {one}. It is asked again in {_AGAIN_S:.0f} s.")


def _capital(one: Occupant) -> str:
    text = str(one)
    return text[:1].upper() + text[1:]


def _listed(occupants: Iterable[Occupant]) -> str:
    return "; ".join(map(str, occupants))
