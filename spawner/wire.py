"""What is read of the API's answers: the fields that somebody here uses. The rest never becomes a Python object.

A pod is some 9 kB of JSON, more than half of it the list of who manages which field, and 57 kB as Python objects; of it
5 kB are kept. Reading it so takes a seventh of the time of Python's own reader, on the hub's event loop, where it
counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Generic, TypedDict, TypeVar

import msgspec

__all__ = ["Change", "Event", "Page", "Pod", "read_change", "read_page"]

Shape = TypeVar("Shape")


class PageMetadata(msgspec.Struct, rename="camel"):
    """Which state of the cluster a list shows, and how the next page is asked for."""

    resource_version: str = ""
    continue_: str | None = msgspec.field(default=None, name="continue")


class Page(msgspec.Struct, Generic[Shape]):
    """One page of a list."""

    metadata: PageMetadata
    items: list[Shape] | None = None


class Change(msgspec.Struct, Generic[Shape]):
    """One line of a watch; of type ERROR, the object is a Status."""

    type: str
    object: Shape


# Values that are looked at as they come are Any: nothing is refused for them.


class ObjectMetadata(TypedDict, total=False):
    """Of any object."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: Any
    deletionTimestamp: Any
    labels: Any
    annotations: Any


class Container(TypedDict, total=False):
    """Of a pod."""

    name: Any
    image: Any
    ports: Any
    resources: Any


class PodSpec(TypedDict, total=False):
    """Of a pod."""

    nodeName: Any
    containers: list[Container] | None


class Pod(TypedDict, total=False):
    """What diagnosis, progress and KubeSpawner's addresses are made of; `code` and `message` are a Status's."""

    metadata: ObjectMetadata
    spec: PodSpec
    status: Any
    code: Any
    message: Any


class EventMetadata(TypedDict, total=False):
    """Of an event."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str


class Event(TypedDict, total=False):
    """What is told to somebody whose server starts; `code` is a Status's."""

    metadata: EventMetadata
    type: Any
    reason: Any
    message: Any
    count: Any
    series: Any
    involvedObject: Any
    lastTimestamp: Any
    eventTime: Any
    code: Any


@cache
def _change(shape: Any) -> msgspec.json.Decoder[Change[Any]]:
    return msgspec.json.Decoder(Change[shape])


@cache
def _page(shape: Any) -> msgspec.json.Decoder[Page[Any]]:
    return msgspec.json.Decoder(Page[shape])


def read_change(line: bytes, shape: Any) -> Change[Any]:
    """Return one line of a watch, its object reduced to `shape`.

    Raises
    ------
    msgspec.DecodeError
        It is no such line.
    """
    return _change(shape).decode(line)


def read_page(body: bytes, shape: Any) -> Page[Any]:
    """Return a page of a list, its objects reduced to `shape`.

    Raises
    ------
    msgspec.DecodeError
        It is no such page.
    """
    return _page(shape).decode(body)
