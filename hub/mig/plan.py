"""What a change of layout would mean, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hub.discover.finding import plain
from hub.mig.layout import Layout, offers, unread
from hub.mig.names import BUSY, CAPABLE, PRODUCT, STRATEGY
from hub.mig.occupants import Occupant
from hub.mig.record import record_of, told_of
from hub.mig.view import Manager, View
from profiles.wording import did_you_mean

__all__ = ["Plan", "make_plan", "offered_text", "who_stops"]


@dataclass(frozen=True)
class Plan:
    """What is, what would be, and what stands in the way.

    Parameters
    ----------
    layout
        What is known of the layout; None: nothing but its name.
    stops
        Who would be stopped; the other occupants go on.
    problems
        Why it cannot be done at all.
    done
        Whether the node has the layout already and nothing is left to do.
    """

    view: View
    wanted: str
    layout: Layout | None
    stops: tuple[Occupant, ...]
    stays: tuple[Occupant, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    done: bool

    def reached(self, node: Mapping[str, Any]) -> bool:
        """Return whether a node offers what the layout makes, as far as it is known."""
        return bool(offers(node)) if self.layout is None else self.layout.shown_by(node)

    def lines(self) -> Iterator[str]:
        """Yield the sentences that `armillary mig plan` prints."""
        view = self.view
        yield f"Node {view.name}: {_card(view)}."
        yield f"Now: {_asked(view)}; it offers {offered_text(view.node)}."
        yield f"Asked for: {self.wanted}{f': {self.layout} on each card' if _counted(self.layout) else ''}."
        yield from _unfinished(view)
        told = told_of(view.node)
        for one in self.stops:
            when = f"; it was told: at {told[one.uid]:%Y-%m-%d %H:%M:%S %Z}" if one.uid in told else ""
            yield f"Would stop: {one}{when}."
        yield from (f"Goes on: {one}." for one in self.stays)
        if not self.stops:
            yield "Nothing would be stopped."
        yield from (f"Warning: {text}" for text in self.warnings)
        yield from (f"Cannot be done: {text}" for text in self.problems)
        if self.done:
            yield "The node has this layout already; there is nothing to do."


def make_plan(view: View, wanted: str) -> Plan:
    """Return what a change of this node to this layout would mean."""
    layout = unread(wanted) if view.layouts is None else view.layouts.get(wanted)
    stops = who_stops(view.occupants, view.manager)
    stays = tuple(one for one in view.occupants if one not in stops)
    plan = Plan(
        view,
        wanted,
        layout,
        stops,
        stays,
        tuple(_problems(view, wanted, stops)),
        tuple(_warnings(view, layout)),
        done=False,
    )
    there = view.layout == wanted and view.state == "success" and plan.reached(view.node)
    return Plan(**{**vars(plan), "done": there and record_of(view.node) is None})


def who_stops(occupants: Iterable[Occupant], manager: Manager | None) -> tuple[Occupant, ...]:
    """Return who must be gone before the cards are partitioned: who has one, and where the node may restart, every
    session.
    """
    reboots = manager is not None and manager.reboots
    return tuple(one for one in occupants if one.devices or (one.session and reboots))


def offered_text(node: Mapping[str, Any]) -> str:
    """Return what a node offers of NVIDIA's, in words."""
    found = [f"{count} {plain(name)}" for name, count in sorted(offers(node).items())]
    return " and ".join(found) or "nothing of NVIDIA's"


def _card(view: View) -> str:
    product = plain(view.labels.get(PRODUCT, "")) or "a card that no label names"
    strategy = plain(view.labels.get(STRATEGY, ""))
    cordoned = ", cordoned" if (view.node.get("spec") or {}).get("unschedulable") else ""
    return f"{product}{f', MIG strategy {strategy}' if strategy else ''}{cordoned}"


def _asked(view: View) -> str:
    if not view.layout:
        return "no layout was asked for"
    return f"layout {plain(view.layout)}, of which the MIG manager says {plain(view.state) or 'nothing yet'}"


def _counted(layout: Layout | None) -> bool:
    return layout is not None and (layout.whole or any(layout.profiles.values()) or not layout.profiles)


def _unfinished(view: View) -> Iterator[str]:
    record = record_of(view.node)
    if record is not None:
        step = "its label is set" if record.asked == record.layout else "its label is not set yet"
        yield f"A change to {plain(record.layout)} was begun and is not finished: {step}."


def _problems(view: View, wanted: str, stops: tuple[Occupant, ...]) -> Iterator[str]:
    if view.labels.get(CAPABLE) == "false":
        yield f"its cards cannot be partitioned (label {CAPABLE} is false)."
    if view.manager is None:
        yield "no MIG manager runs on it, nothing would act on the label; install it with NVIDIA's GPU operator."
    if view.layouts is not None and wanted not in view.layouts:
        known = ", ".join(plain(name, 63) for name in view.layouts)
        hint = did_you_mean(wanted, view.layouts)
        yield f"the MIG manager has no layout {plain(wanted)!r}{hint}; those of {view.config} are: {known}."
    for one in stops:
        if one.returns:
            where = f"{plain(one.namespace)}/{plain(one.name)}"
            yield f"{plain(one.owner)} would start {where} anew; keep it off the node first."


def _warnings(view: View, layout: Layout | None) -> Iterator[str]:
    if CAPABLE not in view.labels:
        yield f"no label {CAPABLE} says that its cards can be partitioned."
    if view.manager is not None and view.layouts is None:
        yield f"whether the MIG manager knows the layout cannot be seen: {plain(view.unread, 400)}."
    if layout is not None and view.labels.get(STRATEGY) == "single" and len(layout.profiles) + layout.whole > 1:
        yield "with the strategy single a node must have slices of one size; this layout makes several."
    if view.labels.get(STRATEGY) == "none":
        yield f"the device plugin offers no slices with the strategy none (label {STRATEGY})."
    if view.manager is not None and view.manager.reboots:
        yield f"the MIG manager may restart the node; {view.bystanders} other pods would be restarted with it."
    if view.state in BUSY:
        yield f"a change is under way ({view.state}); a new one waits for its end."
