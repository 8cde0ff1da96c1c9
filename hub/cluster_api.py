"""The Kubernetes API for commands that people run: plain JSON in and out, problems as sentences.

Through the synchronous client, because these are programs of their own. Nothing in the hub, the service or the
controller may use it: it blocks.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["ApiProblem", "Away", "ClusterApi", "Conflict", "Forbidden", "Json", "NotFound", "connect"]

Json: TypeAlias = dict[str, Any]
"""An object of the API as it travels."""

_PAGE = 500
_TIMEOUT_S = (5.0, 30.0)  # to connect, to read
_DENIED = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ApiProblem(Exception):
    """The API could not be used; the text is a sentence for whoever runs the command."""


class Away(ApiProblem):
    """It did not answer, or not now: the same request may succeed later. `status` is 0 where there was no answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Forbidden(ApiProblem):
    """A right is missing; the text names it."""


class NotFound(ApiProblem):
    """There is no such object, or no such kind of object in this cluster."""


class Conflict(ApiProblem):
    """The object has changed since it was read."""


class ClusterApi:
    """One cluster.

    Parameters
    ----------
    client
        A `kubernetes.client.ApiClient`.
    name
        What to call the cluster in texts.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def get(self, path: str, **query: str | int) -> Json:
        """Return one object or one page of a list.

        Raises
        ------
        ApiProblem
            One of its kinds, as for all methods here.
        """
        return self.ask("GET", path, query)

    def items(self, path: str, **query: str | int) -> Iterator[Json]:
        """Yield the objects of a list, which is fetched in pages."""
        more = ""
        while True:
            page = self.get(path, limit=_PAGE, **query, **({"continue": more} if more else {}))
            yield from page.get("items") or ()
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return

    def create(self, path: str, body: Json) -> Json:
        """Make an object."""
        return self.ask("POST", path, {}, body)

    def patch(self, path: str, body: Json) -> Json:
        """Change an object by a JSON merge patch; with `metadata.resourceVersion` in it only if nobody else did."""
        return self.ask("PATCH", path, {}, body, "application/merge-patch+json")

    def delete(self, path: str, body: Json | None = None) -> None:
        """Delete an object; it need not be there."""
        try:
            self.ask("DELETE", path, {}, body)
        except NotFound:
            return

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Json | None = None,
        kind: str = "application/json",
    ) -> Json:
        """Send one request, which all others here are made of."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=_TIMEOUT_S,
            )
            content = answer.data
        except ApiException as error:
            raise _problem(error, self.name, f"{method} {path}") from error
        except AttributeError as error:
            # The client trips over the missing body of its own error when TLS fails (api_client.py, `e.body.decode`).
            if not isinstance(error.__context__, ApiException):
                raise
            raise _problem(error.__context__, self.name, f"{method} {path}") from error
        except (HTTPError, OSError) as error:
            raise Away(f"The API server of {self.name} does not answer: {_one_line(error)}.") from error
        try:
            read = json.loads(content)
        except ValueError as error:
            raise ApiProblem(f"{self.name} answers {method} {path} with something that is no JSON.") from error
        return read if isinstance(read, dict) else {}


def _one_line(text: object) -> str:
    return _CONTROL.sub(" ", str(text)).strip()[:400].rstrip(".")


def _is_distrust(error: BaseException | None) -> bool:
    """Return whether a certificate that cannot be verified is the cause."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _problem(error: Any, name: str, asked: str) -> ApiProblem:
    """An answer that is no success, as a sentence."""
    said = _message(error)
    match error.status:
        case 0 if _is_distrust(error):
            return ApiProblem(f"The API server of {name} cannot be trusted: {_one_line(said)}.")
        case 0:  # the connection ended in the handshake, as when the server goes away
            return Away(f"The API server of {name} does not answer: {_one_line(said)}.")
        case 401:
            return ApiProblem(f"The API server of {name} does not accept these credentials; log in to it again.")
        case 403:
            return Forbidden(_denied(said, name))
        case 404:
            return NotFound(f"{name} has no {asked.partition(' ')[2]}.")
        case 409:
            return Conflict(f"{name}: {_one_line(said)}.")
        case 429 | 500 | 502 | 503 | 504:
            text = f"The API server of {name} cannot answer now (status {error.status}): {_one_line(said)}."
            return Away(text, error.status)
        case _:
            return ApiProblem(f"{name} refuses {asked} (status {error.status}): {_one_line(said)}.")


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or "no reason given")


def _denied(said: str, name: str) -> str:
    found = _DENIED.search(said)
    if found is None:
        return f"{name} does not allow this: {_one_line(said)}."
    group = f" of {found['group']}" if found["group"] else ""
    where = f"namespace {found['namespace']}" if found["namespace"] else "the whole cluster"
    return (
        f"These credentials may not {found['verb']} {found['resource']}{group} in {where} ({name}). "
        f"Ask the cluster's administrator for the right `{found['verb']}` on `{found['resource']}`, or use others."
    )


def connect(kubeconfig: str | None, context: str | None, environ: Mapping[str, str]) -> ClusterApi:
    """Return the cluster that these name: a kubeconfig file, else $KUBECONFIG, else ~/.kube/config, else the cluster
    that this pod runs in.

    Raises
    ------
    ApiProblem
        There is no such file or context, or it cannot be read.
    """
    from kubernetes import client, config
    from yaml import YAMLError

    settings = client.Configuration()
    settings.retries = False  # Whoever calls decides; urllib3 would retry and write warnings between our lines.
    file = kubeconfig or environ.get("KUBECONFIG") or None
    try:
        config.load_kube_config(file, context, client_configuration=settings, persist_config=False)
        name = f"context {context}" if context else settings.host
    except (config.ConfigException, OSError, YAMLError) as error:
        if file is None and context is None and "KUBERNETES_SERVICE_HOST" in environ:
            name = _own_cluster(settings)
        else:
            raise ApiProblem(_no_kubeconfig(file, context, error)) from error
    return ClusterApi(client.ApiClient(settings), name)


def _own_cluster(settings: Any) -> str:
    from kubernetes import config

    try:
        config.load_incluster_config(settings)
    except config.ConfigException as error:
        raise ApiProblem(f"This pod has no service account to use: {_one_line(error)}.") from error
    return "this pod's cluster"


def _no_kubeconfig(file: str | None, context: str | None, error: Exception) -> str:
    what = f"The kubeconfig {file}" if file else "The kubeconfig (~/.kube/config)"
    which = f" with context {context}" if context else ""
    return f"{what}{which} cannot be used: {_one_line(error)}. Name another with --kubeconfig FILE and --context NAME."
