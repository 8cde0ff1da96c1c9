"""The ID token's checks, against a provider that signs real tokens: what is right passes, every forgery is refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

import hub.auth.provider as module
from hub.auth import id_token
from hub.auth.problems import Unproven
from hub.auth.provider import Credentials, Provider
from hub.settings.login import LoginSettings
from tests.hub.provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, Key

RULES = id_token.Rules(CLIENT_ID, LoginSettings().id_token_algorithms, 30)
Claims = dict[str, Any]


@pytest.fixture(scope="module")
def running() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(running: FakeProvider) -> FakeProvider:
    running.reset()
    return running


@pytest.fixture
def provider(fake: FakeProvider) -> Provider:
    client = SimpleAsyncHTTPClient(force_instance=True)
    return Provider(fake.issuer, Credentials(CLIENT_ID, CLIENT_SECRET), client=client, timeout_s=5, request={})


async def check(
    fake: FakeProvider, provider: Provider, *, nonce: str | None = "n", subject: str | None = None
) -> dict[str, Any]:
    answer = fake.tokens("ann", {"nonce": "n"})
    return await id_token.verify(
        answer["id_token"], provider, RULES, access_token=answer["access_token"], nonce=nonce, subject=subject
    )


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256"])
async def test_a_right_token_passes(fake: FakeProvider, provider: Provider, algorithm: str) -> None:
    key = Key("k", algorithm)
    fake.keys = [key]
    assert (await check(fake, provider))["sub"] == "ann"


def at(offset: int) -> int:
    return int(time.time()) + offset


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda claims: claims | {"nonce": "another"}, id="nonce-of-another-login"),
        pytest.param(lambda claims: {k: v for k, v in claims.items() if k != "nonce"}, id="no-nonce"),
        pytest.param(lambda claims: claims | {"nonce": 7}, id="nonce-is-no-text"),
        pytest.param(lambda claims: claims | {"aud": "another"}, id="audience"),
        pytest.param(lambda claims: claims | {"aud": [CLIENT_ID, "another"]}, id="two-audiences-without-azp"),
        pytest.param(lambda claims: claims | {"aud": [CLIENT_ID, "b"], "azp": "b"}, id="given-to-another"),
        pytest.param(lambda claims: claims | {"azp": "another"}, id="azp"),
        pytest.param(lambda claims: claims | {"aud": []}, id="no-audience"),
        pytest.param(lambda claims: claims | {"iss": "https://evil.example.org"}, id="issuer"),
        pytest.param(lambda claims: claims | {"iss": claims["iss"] + "/"}, id="issuer-with-slash"),
        pytest.param(lambda claims: claims | {"exp": at(-31)}, id="expired"),
        pytest.param(lambda claims: claims | {"iat": at(60)}, id="from-the-future"),
        pytest.param(lambda claims: claims | {"nbf": at(60)}, id="not-yet"),
        pytest.param(lambda claims: claims | {"exp": "never"}, id="expiry-is-no-number"),
        pytest.param(lambda claims: {k: v for k, v in claims.items() if k != "exp"}, id="no-expiry"),
        pytest.param(lambda claims: {k: v for k, v in claims.items() if k != "sub"}, id="no-subject"),
        pytest.param(lambda claims: {k: v for k, v in claims.items() if k != "iat"}, id="no-issue-time"),
        pytest.param(lambda claims: claims | {"at_hash": "AAAA"}, id="of-another-access-token"),
    ],
)
async def test_wrong_claims_are_refused(
    fake: FakeProvider, provider: Provider, spoil: Callable[[Claims], Claims]
) -> None:
    fake.spoil_id_token = spoil
    with pytest.raises(Unproven) as caught:
        await check(fake, provider)
    assert caught.value.status_code == 403


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda claims: claims | {"exp": at(-10)}, id="just-expired"),
        pytest.param(lambda claims: claims | {"iat": at(10)}, id="clock-ahead"),
        pytest.param(lambda claims: claims | {"aud": [CLIENT_ID, "b"], "azp": CLIENT_ID}, id="two-audiences"),
        pytest.param(lambda claims: claims | {"auth_time": 1.5}, id="fraction-of-a-second"),
    ],
)
async def test_what_the_standard_allows_passes(
    fake: FakeProvider, provider: Provider, spoil: Callable[[Claims], Claims]
) -> None:
    fake.spoil_id_token = spoil
    assert (await check(fake, provider))["sub"] == "ann"


def unsigned(claims: Claims) -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "first"}, claims)
    )
    return f"{head}.{body}."


@pytest.mark.parametrize("trick", ["none", "hs256-secret", "hs256-key", "stranger", "tampered", "garbage", "missing"])
async def test_wrong_signatures_are_refused(
    fake: FakeProvider, provider: Provider, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"kid": "first"}

    def tamper(claims: Claims) -> str:
        parts = fake.key.sign(claims).split(".")
        parts[1] = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "root"}).encode()).rstrip(b"=").decode()
        return ".".join(parts)

    tricks: dict[str, Callable[[Claims], Any]] = {
        "none": unsigned,
        "hs256-secret": lambda claims: jwt.encode(claims, CLIENT_SECRET * 3, algorithm="HS256", headers=head),
        # The public key taken as the secret of an HMAC: the classic confusion of algorithms.
        "hs256-key": lambda claims: jwt.encode(claims, str(fake.key.public()["n"]), algorithm="HS256", headers=head),
        "stranger": Key("first").sign,
        "tampered": tamper,
        "garbage": lambda claims: "a.b.c",
        "missing": lambda claims: None,
    }
    fake.sign = tricks[trick]
    with pytest.raises(Unproven):
        await check(fake, provider)


async def test_a_key_that_was_replaced_is_found_and_the_old_one_refused(fake: FakeProvider, provider: Provider) -> None:
    await check(fake, provider)
    old, fake.keys = fake.keys[0], [Key("second", "ES256")]
    provider._keys_at -= module.KEYS_AGAIN_S + 1
    await check(fake, provider)
    fake.sign = old.sign
    with pytest.raises(Unproven, match="none of the provider's keys"):
        await check(fake, provider)


async def test_a_token_without_key_id_is_tried_with_every_key(fake: FakeProvider, provider: Provider) -> None:
    fake.keys = [Key("other"), Key("ec", "ES256"), fake.key]
    fake.sign = lambda claims: jwt.encode(claims, fake.key.private, algorithm="RS256")
    assert (await check(fake, provider))["sub"] == "ann"


def test_at_hash_is_computed_as_in_the_standard() -> None:
    # OpenID Connect Core 1.0, A.3: access token and at_hash of the standard's own example.
    access = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert id_token.half_hash(access, "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"


async def test_a_refreshed_token_needs_no_nonce_but_the_same_person(fake: FakeProvider, provider: Provider) -> None:
    assert (await check(fake, provider, nonce=None, subject="ann"))["sub"] == "ann"
    with pytest.raises(Unproven, match="another person's"):
        await check(fake, provider, nonce=None, subject="bob")


async def test_messages_hold_no_token(fake: FakeProvider, provider: Provider) -> None:
    answer = fake.tokens("ann", {"nonce": "n"})
    with pytest.raises(Unproven) as caught:
        await id_token.verify(answer["id_token"][:-4], provider, RULES, access_token=answer["access_token"], nonce="n")
    assert answer["id_token"][20:60] not in str(caught.value)
    assert answer["access_token"] not in str(caught.value)
