"""The `login` section: the OpenID Connect provider, and what its claims mean here."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from hub.settings.values import Issuer, Name, PathSetting, Section, Url, setting

# Only signatures that a provider's public key can check: `none` proves nothing, HS* would make the client secret a key.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class LoginSettings(Section):
    """The OpenID Connect provider, and what its claims mean here."""

    issuer: Issuer | None = setting(
        None,
        "The provider's issuer URL, exactly as in its discovery document (`<issuer>/.well-known/openid-configuration`)."
        " https, or http on loopback. Default: none; `armillary run` then brings a demonstration provider.",
        example="https://login.example.org/realms/lab",
    )
    client_id: Name = setting("armillary", "The name under which the provider knows this hub.", example="jupyter")
    client_secret: SecretStr | None = setting(
        None,
        "The hub's secret at the provider. Only by environment or `client_secret_file`.",
        example="***",
    )
    client_secret_file: PathSetting | None = setting(
        None, "File that holds `client_secret`. Default: none.", example="/run/secrets/client-secret"
    )
    client_authentication: Literal["basic", "post"] = setting(
        "basic",
        "How the secret is sent to the provider: HTTP Basic (`client_secret_basic`, OpenID Connect's default) or in "
        "the request's body (`client_secret_post`).",
        example="post",
    )
    service_name: Name = setting(
        "your institute's account",
        "What the login button calls the provider: “Sign in with …”.",
        example="INDIGO IAM",
    )
    scopes: tuple[Name, ...] = setting(
        ("openid", "profile", "email", "groups"),
        "The scopes to ask for; `openid` must be one of them.",
        example=["openid", "wlcg.groups"],
    )
    username_claim: Name = setting(
        "sub",
        "The claim that becomes the user name. `sub`, the default, is the only one OpenID Connect promises to be "
        "unique and never given to another person. Others (`preferred_username`) read better: choose one only if "
        "your provider never gives a name twice. Upper and lower case are never merged.",
        example="preferred_username",
    )
    groups_claims: tuple[Name, ...] = setting(
        ("groups", "wlcg.groups", "eduperson_entitlement", "entitlements"),
        "Claims that name groups. They are looked for in the user information and, only where that has none of them, "
        "in the ID token. A claim inside another is written with slashes (`realm_access/roles`). Of entitlements only "
        "those of the form of AARC-G069 and G002 count (`urn:…:group:lab:role=member#…`).",
        example=["groups"],
    )
    entitlement_namespaces: tuple[Name, ...] = setting(
        (),
        "Namespaces whose entitlements become short group names: with `urn:mace:egi.eu`, "
        "`urn:mace:egi.eu:group:lab:role=member#aai.egi.eu` is the group `lab`. Without, the group's name is the whole "
        "`urn:mace:egi.eu:group:lab`, because another organisation may have a group `lab` too.",
        example=["urn:mace:egi.eu"],
    )
    allowed_groups: tuple[Name, ...] = setting(
        (),
        "Who may log in: members of one of these groups. Default: none, which with `allow_everyone: false` means "
        "only administrators.",
        example=["researchers", "instructors"],
    )
    allow_everyone: bool = setting(
        False,
        "Let everybody in whom the provider knows. False: a provider of a federation knows the whole world.",
        example=True,
    )
    admin_groups: tuple[Name, ...] = setting(
        (),
        "Members of one of these groups administer the hub, and may log in.",
        example=["admins"],
    )
    blocked_users: tuple[Name, ...] = setting(
        (), "User names that may not log in whatever their groups. Default: none.", example=["mallory"]
    )
    recheck_s: Annotated[int, Field(ge=10, le=86_400)] = setting(
        300,
        "How old the knowledge of somebody's groups may be before the provider is asked again, at that person's "
        "next request and always before a start. Five minutes spare the provider.",
        example=60,
        unit="seconds",
    )
    outage_grace_s: Annotated[int, Field(ge=0, le=604_800)] = setting(
        3600,
        "How long people stay logged in on their last known groups while the provider does not answer. An hour: short "
        "enough for somebody who was just removed, long enough for a restart of the provider.",
        example=14_400,
        unit="seconds",
    )
    former_issuers: tuple[Url, ...] = setting(
        (),
        "Issuer URLs that this hub used before and that gave the same people the same `sub`. An account belongs to the "
        "issuer and `sub` that first used it; anybody else with the same user name is refused.",
        example=["https://old-login.example.org"],
    )
    leeway_s: Annotated[int, Field(ge=0, le=300)] = setting(
        30,
        "How far the provider's clock may differ from ours when times in the ID token are checked.",
        example=60,
        unit="seconds",
    )
    timeout_s: Annotated[float, Field(gt=0, le=120)] = setting(
        10.0,
        "How long the provider may take to answer one request.",
        example=20.0,
        unit="seconds",
    )
    id_token_algorithms: tuple[Algorithm, ...] = setting(
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
        "Signatures accepted on ID tokens. `none` and the HS family never are.",
        example=["RS256"],
    )
    ca_file: PathSetting | None = setting(
        None,
        "Certificates (PEM) to trust for the provider, instead of the system's. TLS is always verified.",
        example="/etc/ssl/certs/institute.pem",
    )
    logout_at_provider: bool = setting(
        True,
        "Whether log-out here also ends the session at the provider, where it offers that. True: on a shared "
        "computer the next person would otherwise be logged in as you by one click.",
        example=False,
    )
    contact: str = setting(
        "",
        "Whom to ask for access: shown to those who may not log in.",
        example="helpdesk@example.org",
    )

    @field_validator("scopes")
    @classmethod
    def _openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("must contain 'openid': without it there is no ID token")
        return value

    @field_validator("id_token_algorithms", "groups_claims")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must not be empty")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.client_secret is not None and self.client_secret_file is not None:
            raise ValueError("client_secret and client_secret_file are both given: keep one")
        return self
