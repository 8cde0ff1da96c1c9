"""The ID token's checks (OpenID Connect Core 1.0, 3.1.3.7), with PyJWT for the signature and the times."""

import base64
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt

from hub.auth.problems import Unproven, quoted
from hub.auth.provider import Provider

FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}


@dataclass(frozen=True)
class Rules:
    """What an ID token must fulfil; times in seconds."""

    client_id: str
    algorithms: Collection[str]
    leeway_s: float


async def verify(
    token: object, provider: Provider, rules: Rules, *, access_token: str, nonce: str | None, subject: str | None = None
) -> dict[str, Any]:
    """The token's claims, once everything about it has been checked.

    `nonce` is what this login began with; None for a token that came by refresh, where one is optional, and where
    `subject` must be the person who logged in. Raises Unproven; Unanswered or Garbled where the keys cannot be had.
    """
    if not isinstance(token, str):
        raise Unproven(log="the provider sent no ID token (is 'openid' among login.scopes?)")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise Unproven(log=f"ID token cannot be read: {quoted(error)}") from None
    algorithm = header.get("alg")
    if algorithm not in rules.algorithms:
        raise Unproven(log=f"ID token is signed with {quoted(algorithm)}, accepted are {sorted(rules.algorithms)}")
    kid = header.get("kid")
    claims = _decode(token, await provider.keys(kid if isinstance(kid, str) else None), str(algorithm), provider, rules)
    _audience(claims, rules.client_id)
    if nonce is not None or "nonce" in claims:
        given = claims.get("nonce")
        if nonce is not None and not (isinstance(given, str) and hmac.compare_digest(given.encode(), nonce.encode())):
            raise Unproven(log="ID token has not the nonce of this login")
    if subject is not None and claims["sub"] != subject:
        raise Unproven(log="the refreshed ID token is another person's")
    if "at_hash" in claims and claims["at_hash"] != half_hash(access_token, str(algorithm)):
        raise Unproven(log="ID token belongs to another access token (at_hash)")
    return claims


def _decode(token: str, keys: list[jwt.PyJWK], algorithm: str, provider: Provider, rules: Rules) -> dict[str, Any]:
    """Signature, issuer, audience and times; each key that can have made this kind of signature is tried."""
    reason = "none of the provider's keys fits it"
    for key in keys:
        if not algorithm.startswith(FAMILIES.get(key.key_type or "", ())):
            continue
        try:
            return dict(
                jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience=rules.client_id,
                    issuer=provider.issuer,
                    leeway=rules.leeway_s,
                    options={"require": ["iss", "sub", "aud", "exp", "iat"]},
                )
            )
        except jwt.InvalidSignatureError:
            reason = "its signature is wrong"
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            reason = f"{type(error).__name__} {quoted(error)}"
            break
    raise Unproven(log=f"ID token: {reason}")


def _audience(claims: dict[str, Any], client_id: str) -> None:
    """PyJWT wants us among the audiences; a token that is also for others must name us as the party it was given to."""
    audience = claims["aud"]
    party = claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise Unproven(log="ID token is for several audiences and names no authorized party (azp)")
    if party is not None and party != client_id:
        raise Unproven(log=f"ID token was given to {quoted(party)} (azp), not to us")


def half_hash(access_token: str, algorithm: str) -> str:
    """`at_hash` (OpenID Connect Core 3.1.3.6): the left half of the token's hash, by the hash of the signature."""
    name = "sha512" if algorithm == "EdDSA" else f"sha{algorithm[2:]}"
    digest = hashlib.new(name, access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
