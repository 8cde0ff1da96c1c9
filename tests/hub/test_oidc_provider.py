"""The provider as seen over HTTP: discovery, keys that change, answers that are late, broken or missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tornado.simple_httpclient import SimpleAsyncHTTPClient

import hub.auth.provider as module
from hub.auth.problems import Garbled, GrantRefused, Unanswered
from hub.auth.provider import Credentials, Provider, read_metadata
from hub.doctor import parts as doctor
from hub.settings import Settings
from tests.hub.provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, Key


@pytest.fixture(scope="module")
def running() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(running: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    running.reset()
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    return running


def provider_of(fake: FakeProvider, **more: Any) -> Provider:
    client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=100_000)
    values = {"timeout_s": 5.0, "request": {}, **more}
    return Provider(fake.issuer, Credentials(CLIENT_ID, CLIENT_SECRET), client=client, **values)


def age(provider: Provider, seconds: float) -> None:
    """Make what the provider said older."""
    provider._metadata_at -= seconds
    provider._keys_at -= seconds


async def test_discovery_is_asked_once_by_many_at_a_time(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    found = await asyncio.gather(*(provider.metadata() for _ in range(20)))
    assert fake.requests == ["/.well-known/openid-configuration"]
    assert {item.token_endpoint for item in found} == {f"{fake.issuer}/token"}


async def test_discovery_is_tried_again_when_the_provider_stumbles(fake: FakeProvider) -> None:
    answers = [(503, b""), (500, b"")]

    def stumble() -> tuple[int, bytes]:
        if len(answers) == 1:
            del fake.faults["/.well-known/openid-configuration"]
        return answers.pop()

    fake.faults["/.well-known/openid-configuration"] = stumble
    assert (await provider_of(fake).metadata()).issuer == fake.issuer
    assert len(fake.requests) == 3


async def test_nobody_listening_is_unanswered_and_the_next_try_works(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    provider.issuer = "http://127.0.0.1:9"
    with pytest.raises(Unanswered) as caught:
        await provider.metadata()
    assert caught.value.status_code == 503
    provider.issuer = fake.issuer
    assert await provider.metadata()


async def test_an_old_document_is_used_while_no_new_one_can_be_had(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    first = await provider.metadata()
    fake.fail("/.well-known/openid-configuration", 500)
    age(provider, module.FRESH_S + 1)
    assert await provider.metadata() == first
    assert len(fake.requests) == 1 + module.ATTEMPTS


async def test_a_provider_that_hangs_is_given_up(fake: FakeProvider) -> None:
    fake.hang("/.well-known/openid-configuration")
    with pytest.raises(Unanswered):
        await provider_of(fake, timeout_s=0.1).metadata()


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"<html>", 200), (b"[]", 200), (b"", 200), (b'{"a":', 200), (b"{}", 404), (b"[" * 100_000, 200), (b"", 302)],
    ids=["html", "list", "empty", "cut", "404", "deep", "redirect"],
)
async def test_garbage_is_a_wrong_answer(fake: FakeProvider, body: bytes, status: int) -> None:
    fake.fail("/.well-known/openid-configuration", status, body)
    with pytest.raises((Garbled, Unanswered)) as caught:
        await provider_of(fake).metadata()
    assert caught.value.status_code in (502, 503)


async def test_an_endless_answer_is_cut(fake: FakeProvider) -> None:
    fake.fail("/.well-known/openid-configuration", 200, b" " * 1_000_000)
    with pytest.raises(Unanswered):
        await provider_of(fake).metadata()


GOOD = {
    "issuer": "https://i.example.org",
    "authorization_endpoint": "https://i.example.org/a",
    "token_endpoint": "https://i.example.org/t",
    "jwks_uri": "https://i.example.org/j",
}


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://i.example.org/"},
        {"issuer": "https://evil.example.org"},
        {"issuer": None},
        {"token_endpoint": "http://i.example.org/t"},
        {"token_endpoint": "http://127.0.0.1/t"},
        {"jwks_uri": None},
        {"userinfo_endpoint": "ftp://i.example.org"},
        {"end_session_endpoint": "http://i.example.org/out"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": ["https://i.example.org/a"]},
        {"jwks_uri": "https://[broken"},
    ],
    ids=str,
)
def test_a_document_of_another_issuer_or_with_open_endpoints_is_refused(change: dict[str, Any]) -> None:
    assert read_metadata(GOOD, GOOD["issuer"]).userinfo_endpoint is None
    with pytest.raises(Garbled):
        read_metadata({**GOOD, **change}, GOOD["issuer"])


async def test_keys_that_were_replaced_are_fetched_again(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    assert [key.key_id for key in await provider.keys("first")] == ["first"]
    fake.keys = [Key("second", "ES256")]
    age(provider, module.KEYS_AGAIN_S + 1)
    assert [key.key_id for key in await provider.keys("second")] == ["second"]
    assert await provider.keys("first") == []
    assert fake.requests.count("/jwks") == 2, "an unknown key must not make us ask again at once"


async def test_a_key_set_without_usable_keys_is_a_wrong_answer(fake: FakeProvider) -> None:
    fake.keys = []
    with pytest.raises(Garbled, match="no key"):
        await provider_of(fake).keys("first")


async def test_a_refused_grant_is_told_from_a_wrong_configuration(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    with pytest.raises(GrantRefused) as refused:
        await provider.tokens({"grant_type": "authorization_code", "code": "secret-code"})
    assert "secret-code" not in str(refused.value)
    provider._credentials = Credentials(CLIENT_ID, "wrong-secret")
    with pytest.raises(Garbled, match="invalid_client") as wrong:
        await provider.tokens({"grant_type": "refresh_token", "refresh_token": "secret-code"})
    assert "wrong-secret" not in str(wrong.value) + repr(provider._credentials)


async def test_a_grant_is_never_sent_twice(fake: FakeProvider) -> None:
    fake.fail("/token", 503)
    with pytest.raises(Unanswered):
        await provider_of(fake).tokens({"grant_type": "refresh_token", "refresh_token": "x"})
    assert fake.requests.count("/token") == 1


@pytest.mark.parametrize("answer", [b"{}", b'{"access_token": 1, "token_type": "Bearer"}', b'{"access_token": "a"}'])
async def test_a_token_answer_without_a_bearer_token_is_wrong(fake: FakeProvider, answer: bytes) -> None:
    fake.fail("/token", 200, answer)
    with pytest.raises(Garbled):
        await provider_of(fake).tokens({"grant_type": "refresh_token", "refresh_token": "x"})


async def test_user_information_says_when_the_token_has_ended(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    token = fake.tokens("ann", {})["access_token"]
    assert (await provider.userinfo(token))["groups"] == ["researchers"]
    with pytest.raises(GrantRefused):
        await provider.userinfo("expired")
    fake.spoil_document = lambda document: {**document, "userinfo_endpoint": None}
    assert await provider_of(fake).userinfo(token) == {}


def self_signed(folder: Path, until: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key; `until` is from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=9))
        .not_valid_after(today + until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    unlocked = serialization.NoEncryption()
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=unlocked)
    )
    return files


async def test_a_certificate_that_is_not_trusted_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    files = self_signed(tmp_path)
    with FakeProvider(files) as secure:
        with pytest.raises(Unanswered, match=r"(?i)certificate"):
            await provider_of(secure, request={"validate_cert": True}).metadata()
        assert secure.requests == []
        trusted = {"validate_cert": True, "ca_certs": str(files[0])}
        assert (await provider_of(secure, request=trusted).metadata()).issuer == secure.issuer


async def test_a_certificate_that_has_expired_is_named_in_the_log_and_to_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    files = self_signed(tmp_path, until=timedelta(days=-1))
    with FakeProvider(files) as secure:
        trusted = {"validate_cert": True, "ca_certs": str(files[0])}
        with pytest.raises(Unanswered, match="certificate has expired") as caught:
            await provider_of(secure, request=trusted).metadata()
        assert caught.value.text.startswith("The login service does not answer at the moment. Nothing of yours is lost")
        login = {"issuer": secure.issuer, "client_id": "hub", "ca_file": files[0]}
        [found] = doctor.login(Settings.model_validate({"public_url": "http://localhost/", "login": login}))
        assert "certificate has expired" in found.text
        assert found.grade == "problem"
