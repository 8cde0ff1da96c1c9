"""One change of a node at a time: who holds it, and changes that only the holder can make.

The node's own annotation is the lock, and every change of the node carries the resourceVersion that was read with it:
whoever was taken over, frozen or cut off cannot change anything any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hub.cluster_api import ApiProblem, Away, ClusterApi, Conflict, Json
from hub.mig.names import CONFIG, RECORD
from hub.mig.patience import Say
from hub.mig.record import Record, me, record_of, surely_gone, told_of
from hub.mig.view import node_path

__all__ = ["Holder", "Lost", "Taken"]

SILENT_S = 20.0
"""How long a holder may give no sign of life before another takes over: many times RENEW_S, and the longest wait for
one answer of the API server is in between."""

RENEW_S = 4.0
_LOOK_S = 1.0


class Taken(Exception):
    """Another run works on this node; the text is a sentence."""


class Lost(Exception):
    """Another run took this node over, or somebody removed what was remembered; the text is a sentence."""


class Holder:
    """The right to change one node.

    Parameters
    ----------
    silent_s
        How long another holder must be silent to be taken over.
    """

    def __init__(self, api: ClusterApi, node: str, say: Say, *, silent_s: float = SILENT_S) -> None:
        self._api, self._node, self._say, self._silent_s = api, node, say, silent_s
        self._path = node_path(node)
        self._id = me()
        self._renewed = 0.0
        self._seen: Record | None = None
        self.previous = ""
        """The layout that the node had before the first try."""

    def take(self, layout: str, *, cordon: bool) -> Json:
        """Take the node for a change to this layout, going on with one that was begun; return the node.

        Parameters
        ----------
        cordon
            Cordon it in the same change. Whether it was cordoned before the first try is remembered.

        Raises
        ------
        Taken
            Somebody else works on it.
        """
        self._wait_for_silence()
        while True:
            node = self._api.get(self._path)
            before = record_of(node)
            if before is not None and before.holder not in ("", self._id) and not self._silent(before):
                raise Taken(_taken(self._node, before))
            body = _patch(node, self._begun(node, before, layout), {"spec": {"unschedulable": True}} if cordon else {})
            try:
                taken = self._api.patch(self._path, body)
            except Conflict:
                continue
            self._renewed = time.monotonic()
            self.previous = self.own(taken).previous
            return taken

    def _begun(self, node: Json, before: Record | None, layout: str) -> Record:
        if before is not None:
            return before.but(holder=self._id, layout=layout, told=told_of(node))
        labels = node["metadata"].get("labels") or {}
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        return Record(layout, labels.get(CONFIG, ""), cordoned, self._id, 1)

    def _wait_for_silence(self) -> None:
        """Watch another holder until it is clear whether it lives; the clocks of two machines are not compared."""
        self._seen = record_of(self._api.get(self._path))
        if self._seen is None or not self._seen.holder or surely_gone(self._seen.holder):
            return
        self._say(f"Another run holds {self._node}; whether it lives is known in {self._silent_s:.0f} s.")
        since = time.monotonic()
        while time.monotonic() - since < self._silent_s:
            time.sleep(_LOOK_S)
            now = record_of(self._api.get(self._path))
            if now is not None and now != self._seen:
                if now.holder:
                    raise Taken(_taken(self._node, now))
                self._seen = now
                return
            if now is None:
                self._seen = None
                return
        self._say(f"It is silent: this run goes on where it ended, {self._seen.layout}.")

    def _silent(self, now: Record) -> bool:
        """Whether this holder is the one that was silent, or is surely gone."""
        return now == self._seen or surely_gone(now.holder)

    def change(self, make: Callable[[Json, Record], tuple[Record | None, Mapping[str, Any]]]) -> Json:
        """Change the node; return it as it is then.

        Parameters
        ----------
        make
            From the node and its record to the next record (None: it is removed) and a merge patch. Asked again
            whenever somebody else changed the node in between.

        Raises
        ------
        Lost
            Somebody else holds it now.
        """
        while True:
            node = self._api.get(self._path)
            record = self.own(node)
            following, patch = make(node, record)
            try:
                changed = self._api.patch(self._path, _patch(node, following, patch))
            except Conflict:
                continue
            self._renewed = time.monotonic()
            return changed

    def own(self, node: Json) -> Record:
        """Return the record of a node that this run holds.

        Raises
        ------
        Lost
            It does not.
        """
        record = record_of(node)
        if record is None or record.holder != self._id:
            raise Lost(
                f"Another run took {self._node} over, or its annotation {RECORD} was removed; nothing more is done."
            )
        return record

    def alive(self) -> Json:
        """Give a sign of life where it is time for one; return the node.

        Raises
        ------
        Lost
            Somebody else holds it now.
        """
        if time.monotonic() - self._renewed < RENEW_S:
            node = self._api.get(self._path)
            self.own(node)
            return node
        return self.change(lambda node, record: (record.but(), {}))

    def let_go(self, api: ClusterApi) -> None:
        """Leave the change as it is for another run, which then need not wait. Does nothing where that cannot be.

        Parameters
        ----------
        api
            One that does not wait for its server.
        """
        self._api = api
        try:
            self.change(lambda node, record: (record.but(holder=""), {}))
        except (Lost, Away, ApiProblem):
            return  # The next run finds a silent holder.


def _patch(node: Json, record: Record | None, patch: Mapping[str, Any]) -> Json:
    metadata = {
        **patch.get("metadata", {}),
        "resourceVersion": node["metadata"]["resourceVersion"],
        "annotations": {RECORD: record.as_annotation() if record else None},
    }
    return {**patch, "metadata": metadata}


def _taken(node: str, record: Record) -> str:
    who = record.holder.split()
    where = f" (process {who[3]} on {who[0]})" if len(who) == 5 else ""
    return f"Another run changes {node} to {record.layout} now{where}; wait for its end, or end it first."
