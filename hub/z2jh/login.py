"""The login of Zero to JupyterHub (`hub.config`) as ours: OpenID Connect stays, all else has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hub.z2jh.rules import Unusable, python_line

__all__ = ["Found", "login"]

Found = tuple[str, str, Any, str]
"""Theirs (dotted), ours (dotted; empty: none), our value, and what there is to say."""

_OIDC = (
    "GenericOAuthenticator",
    "Auth0OAuthenticator",
    "AzureAdOAuthenticator",
    "CILogonOAuthenticator",
    "GlobusOAuthenticator",
    "GoogleOAuthenticator",
    "OkpyOAuthenticator",
    "OpenShiftOAuthenticator",
)
_OTHERS = "logins are by OpenID Connect here: put a provider such as Keycloak or dex in front of it"
_ENDPOINTS = ("authorize_url", "token_url", "userdata_url", "userdata_token_method", "userdata_params")


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list):
        raise Unusable("a list is expected")
    return [str(one) for one in value]


def _claims(value: Any) -> list[str]:
    if not isinstance(value, str):
        raise Unusable("a name is expected; name the claims in settings.login.groups_claims")
    return [value]


_TRAITS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "client_id": ("settings.login.client_id", str),
    "client_secret": ("login.clientSecret", str),
    "scope": ("settings.login.scopes", _list),
    "username_claim": ("settings.login.username_claim", str),
    "username_key": ("settings.login.username_claim", str),
    "claim_groups_key": ("settings.login.groups_claims", _claims),
    "auth_state_groups_key": ("settings.login.groups_claims", _claims),
    "allowed_groups": ("settings.login.allowed_groups", _list),
    "admin_groups": ("settings.login.admin_groups", _list),
    "login_service": ("settings.login.service_name", str),
    "allow_all": ("settings.login.allow_everyone", bool),
    "blocked_users": ("settings.login.blocked_users", _list),
}
_WHY: Mapping[str, str] = {
    "oauth_callback_url": "it follows from publicUrl; register PUBLIC_URL/hub/oauth_callback at the provider",
    "allowed_users": "who may log in is said by groups: settings.login.allowed_groups",
    "admin_users": "who administers is said by groups: settings.login.admin_groups",
    "enable_auth_state": "it is on",
    "auto_login": "the login page has one button",
    "tls_verify": "certificates are always checked; name your authority in login.caCertificates",
}


def login(config: Mapping[str, Any]) -> Iterator[Found]:
    """Yield what becomes of each value of `hub.config`: traits of the login, all others as lines of Python."""
    for cls, traits in config.items():
        if not isinstance(traits, Mapping):
            yield f"hub.config.{cls}", "", None, "a class with traits is expected"
            continue
        for trait, value in traits.items():
            yield from _trait(cls, str(trait), value)


def _trait(cls: str, trait: str, value: Any) -> Iterator[Found]:
    theirs = f"hub.config.{cls}.{trait}"
    if (cls, trait) == ("JupyterHub", "authenticator_class"):
        known = str(value).lower().replace("-", "").replace("oauthenticator", "")
        oidc = any(known in (name.lower().removesuffix("oauthenticator"), "genericoauth") for name in _OIDC)
        say = "name the provider in settings.login.issuer" if oidc else _OTHERS
        yield theirs, "", None, say
    elif cls in (*_OIDC, "Authenticator", "OAuthenticator"):
        if trait in _TRAITS:
            ours, change = _TRAITS[trait]
            try:
                yield theirs, ours, change(value), ""
            except Unusable as error:
                yield theirs, "", None, str(error)
        elif trait in _ENDPOINTS or trait.endswith("_domain"):
            yield theirs, "", None, "addresses come from the provider's discovery document: name settings.login.issuer"
        else:
            yield theirs, "", None, _WHY.get(trait, "see settings.login for what there is")
    elif cls.endswith("Authenticator"):
        yield theirs, "", None, _OTHERS
    else:
        yield theirs, "hub.extraConfig.z2jh", python_line(f"{cls}.{trait}", value), "as a line of Python"
