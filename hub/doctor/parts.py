"""The parts of an installation: do they reach each other, and are they well."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from hub.doctor.finding import Finding, good, problem, warning
from hub.doctor.web import Answer, Silent, addresses, ask, expires_at, resolves
from hub.settings import Settings
from hub.web.place import hub_api_url, service_url

__all__ = ["SKEW_S", "login", "names", "parts", "skew"]

_AREA_PARTS = "Parts"
_AREA_LOGIN = "Login"
_AREA_NAMES = "Names"
SKEW_S = 2.0
"""Clocks that differ by more are worth a word: tokens are checked to the second by some providers."""

_FAR_S = 30.0
_EXPIRES_DAYS = 14


def names(settings: Settings) -> Iterator[Finding]:
    """Look up the names that the settings have."""
    asked = {
        "public_url": settings.public_url,
        "login.issuer": settings.login.issuer,
        "hub.connect_url": settings.hub.connect_url,
        "service.connect_url": settings.service.connect_url,
        "proxy.api_url": settings.proxy.api_url,
    }
    wrong = 0
    for setting, url in asked.items():
        why = resolves(url) if url else ""
        if why:
            wrong += 1
            yield problem(_AREA_NAMES, f"{setting}: {why}", "Correct the setting, or make the name known to DNS here.")
    if not wrong:
        yield good(_AREA_NAMES, "every name in the settings has an address")
        if settings.user_subdomains:
            yield _wildcard(urlsplit(settings.public_url).hostname or "")


def _wildcard(host: str) -> Finding:
    """Look up a name below the site's that nobody can have thought of: each person's sessions have such a one."""
    every = f"*.{host}"
    to_do = (
        f"Let {every} lead where {host} leads, in the DNS of browsers and of this place, or set user_subdomains to "
        "false (the chart: wildcard)."
    )
    try:
        found = addresses(f"{secrets.token_hex(8)}.{host}")
        site = addresses(host)
    except Silent as silent:
        return problem(_AREA_NAMES, f"names of sessions below {host} have no address: {silent}", to_do)
    if found.isdisjoint(site):
        text = f"{every} leads to {', '.join(sorted(found))}, and {host} to {', '.join(sorted(site))}"
        return warning(_AREA_NAMES, text, f"If these are not the same machines, sessions cannot be opened. {to_do}")
    return good(_AREA_NAMES, f"{every} leads where {host} leads")


def parts(settings: Settings) -> Iterator[Finding]:
    """Ask hub, service and proxy how they are."""
    hub = hub_api_url(settings).removesuffix("/api")
    for name, url, to_do in (
        ("the hub", f"{hub}/health", "See its log; it refuses to start beside another hub and with an older database."),
        ("the service", f"{service_url(settings)}/health", "See its log; forms have no counts and nobody queues."),
    ):
        try:
            answer = ask(url)
        except Silent as silent:
            yield problem(_AREA_PARTS, f"{name} does not answer at {url}: {silent}", to_do)
            continue
        if answer.status == 200:
            yield good(_AREA_PARTS, f"{name} answers")
        else:
            yield problem(_AREA_PARTS, f"{name} says that it is not well (status {answer.status})", to_do)
    yield _proxy(settings, hub)


def _proxy(settings: Settings, hub: str) -> Finding:
    path = "/api/overview" if settings.proxy.kind == "traefik" else "/api/routes"
    url = settings.proxy.api_url.rstrip("/") + path
    to_do = "See the proxy's log. While it is away nobody reaches anything; sessions go on."
    try:
        answer = ask(url)
    except Silent as silent:
        return problem(_AREA_PARTS, f"the proxy's API does not answer at {url}: {silent}", to_do)
    if answer.status in (401, 403):
        return good(_AREA_PARTS, "the proxy's API answers, to who has its password only")
    if answer.status == 200:
        text = f"the proxy's API at {url} answers without a password"
        return problem(_AREA_PARTS, text, "Set `proxy.api_password_file`; who reaches it can lead people anywhere.")
    return problem(_AREA_PARTS, f"the proxy's API answers with status {answer.status}", to_do)


def login(settings: Settings, now: datetime | None = None) -> Iterator[Finding]:
    """Read the provider's discovery document and keys, its certificate and its clock."""
    now = now or datetime.now(UTC)
    issuer, ca_file = settings.login.issuer, settings.login.ca_file
    if issuer is None:
        yield problem(_AREA_LOGIN, "login.issuer is not set", "Name your OpenID Connect provider.")
        return
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    try:
        answer = ask(url, ca_file=ca_file)
        if answer.status != 200:
            raise Silent(f"status {answer.status}")
        said = answer.json()
    except Silent as silent:
        yield problem(
            _AREA_LOGIN,
            f"{url}: {silent}",
            "Nobody can log in. Check login.issuer, login.ca_file, and that this machine may reach the provider.",
        )
        return
    yield from _discovered(said, issuer, answer, settings)
    until = expires_at(issuer, ca_file)
    if until is not None and (until - now).days < _EXPIRES_DAYS:
        text = f"the provider's certificate expires on {until:%Y-%m-%d}"
        yield warning(_AREA_LOGIN, text, "Tell whoever runs it; afterwards nobody can log in.")
    if answer.date is not None:
        yield skew("the provider", (answer.date - now).total_seconds(), whole_seconds=True)


def _discovered(said: dict[str, object], issuer: str, answer: Answer, settings: Settings) -> Iterator[Finding]:
    if said.get("issuer") != issuer:
        text = f"the provider calls itself {said.get('issuer')!r}, login.issuer is {issuer!r}"
        yield problem(_AREA_LOGIN, text, "Write login.issuer exactly as the provider does; a slash at the end counts.")
        return
    wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    missing = [name for name in wanted if not isinstance(said.get(name), str)]
    if missing:
        yield problem(_AREA_LOGIN, f"the provider names no {', '.join(missing)}", "Is it an OpenID Connect provider?")
        return
    try:
        keys = ask(str(said["jwks_uri"]), ca_file=settings.login.ca_file).json().get("keys")
    except Silent as silent:
        yield problem(_AREA_LOGIN, f"the provider's keys cannot be read: {silent}", "Nobody can log in meanwhile.")
        return
    if not keys:
        yield problem(_AREA_LOGIN, "the provider has no keys", "Nobody can log in meanwhile.")
        return
    yield good(_AREA_LOGIN, f"{issuer} answers, with {len(list(keys))} keys")


def skew(whose: str, seconds: float, *, whole_seconds: bool = False) -> Finding:
    """Judge how far a clock is ahead of ours."""
    away = abs(seconds)
    if away <= SKEW_S + (1.0 if whole_seconds else 0.0):
        return good("Clocks", f"ours and that of {whose} agree")
    text = f"that of {whose} is {away:.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    to_do = "Let NTP set both clocks."
    return problem("Clocks", text, f"{to_do} Logins are refused.") if away > _FAR_S else warning("Clocks", text, to_do)
