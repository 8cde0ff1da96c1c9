"""The chart's values about what is secret."""

from __future__ import annotations

from pydantic import Field

from helm.base import Model

__all__ = ["Login", "Mail", "Secrets"]


class Login(Model):
    """The hub's secret at the OpenID provider; all else of the login is below `settings.login`."""

    client_secret: str = Field(default="", description="The secret itself; better keep it in a Secret of your own.")
    existing_secret: str = Field(default="", description="A Secret that holds it.")
    key: str = Field(default="client-secret", description="The key in that Secret.", min_length=1)
    ca_certificates: str = Field(default="", description="PEM of authorities that signed the provider's certificate.")


class Mail(Model):
    """The password of the mail server that `settings.queue.mail` names."""

    existing_secret: str = Field(default="", description="A Secret that holds it. Empty: none is used.")
    key: str = Field(default="password", description="The key in that Secret.", min_length=1)


class Secrets(Model):
    """Keys and tokens that hub, proxy and service share."""

    existing_secret: str = Field(
        default="",
        description="A Secret with the keys `cookie_secret`, `auth_state_keys`, `proxy_password` and `service_token`, "
        "each 64 hexadecimal digits; with the bundled database also `postgres-password`, `armillary-url`, "
        "`jupyterhub-url`. Empty: one is made at the first install and kept. Tools that render without asking the "
        "cluster need one of yours.",
    )
