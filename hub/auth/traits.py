"""What a deployer can configure of the OpenID Connect authenticator."""

from jupyterhub.auth import Authenticator
from oauthenticator.generic import GenericOAuthenticator
from traitlets import Any, Bool, Dict, Float, Integer, List, Unicode


class OIDCTraits(GenericOAuthenticator):  # type: ignore[misc]  # oauthenticator is untyped
    """The traits of `OIDCAuthenticator`: `c.OIDCAuthenticator.<name> = …`; all that oauthenticator has work too."""

    issuer = Unicode(
        config=True,
        help="""
        The provider's issuer URL, to the letter as in its discovery document. No default.

        Example: `c.OIDCAuthenticator.issuer = "https://login.example.org/realms/lab"`
        """,
    )
    former_issuers = List(
        Unicode(),
        config=True,
        help="""
        Issuers that gave the same people the same `sub` before; their accounts are taken over. Default: none.
        """,
    )
    groups_claims = List(
        Unicode(),
        ["groups", "wlcg.groups", "eduperson_entitlement", "entitlements"],
        config=True,
        help="""
        Claims that name groups; a claim inside another is written with slashes (`realm_access/roles`).

        They are looked for in the user information and, only where that has none of them, in the ID token. The default
        covers most providers: plain lists, WLCG paths, AARC entitlements.
        """,
    )
    entitlement_namespaces = List(
        Unicode(),
        config=True,
        help="""
        Namespaces whose entitlements become short group names (`urn:mace:egi.eu`). Default: none, so that groups of
        different organisations never become one.
        """,
    )
    id_token_algorithms = List(
        Unicode(),
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
        config=True,
        help="""
        Signatures accepted on ID tokens. The default is every one that a public key verifies; `none` and HS* are
        refused whatever stands here.
        """,
    )
    leeway_s = Float(
        30.0,
        min=0,
        config=True,
        help="""
        How many seconds the provider's clock may differ from ours. Default 30: unsynchronised clocks, not yesterday's
        tokens.
        """,
    )
    timeout_s = Float(
        10.0,
        config=True,
        help="""
        How many seconds the provider may take for one answer. Default 10: people wait for it.
        """,
    )
    ca_file = Unicode(
        config=True,
        help="""
        Certificates (PEM) to trust for the provider instead of the system's. Default: the system's. Verification cannot
        be switched off.
        """,
    )
    outage_grace_s = Integer(
        3600,
        min=0,
        config=True,
        help="""
        How many seconds people stay logged in on their last known groups while the provider does not answer.

        Default 3600: long enough for a restart of the provider, short enough for somebody who was just removed.
        """,
    )
    logout_at_provider = Bool(
        True,
        config=True,
        help="""
        Whether log-out also ends the session at the provider. Default True: on a shared computer one click would log
        the next person in otherwise.
        """,
    )
    post_logout_url = Unicode(
        config=True,
        help="""
        Where the provider sends the browser after log-out; must be registered there. Default: /hub/logout of this hub.
        """,
    )
    contact = Unicode(
        config=True,
        help="""
        Whom to ask for access, shown to those who have none. Default: nobody is named.
        Example: `c.OIDCAuthenticator.contact = "helpdesk@example.org"`
        """,
    )
    addresses = Any(
        None,
        allow_none=True,
        config=True,
        help="""
        What is told the e-mail address of whoever logs in: an object with `async remember(user, address)`, where the
        address is None if the login gives none, or one that the provider calls unverified.

        Default: none, and no address is kept. `hub.config` sets one where the site sends mail (`queue.mail.host`).
        Example: `c.OIDCAuthenticator.addresses = AddressBook(connect("sqlite:///armillary.sqlite"))`
        """,
    )
    logins = Any(
        None,
        allow_none=True,
        config=True,
        help="""
        What is told that somebody has logged in: an object with `async happened(user)`.

        Default: none. `hub.config` sets one, by which places in the queue that wait for a login are taken up.
        Example: `c.OIDCAuthenticator.logins = Logins(connect("sqlite:///armillary.sqlite"))`
        """,
    )
    # Defaults of JupyterHub's and oauthenticator's traits that OpenID Connect and our groups need; see their help.
    username_claim = Unicode("sub", config=True, help="The claim that becomes the user name, exactly as it is.")
    manage_groups = Bool(True, config=True, help=Authenticator.manage_groups.help)
    enable_auth_state = Bool(True, config=True, help=Authenticator.enable_auth_state.help)
    auto_login = Bool(True, config=True, help=Authenticator.auto_login.help)
    refresh_pre_spawn = Bool(True, config=True, help=Authenticator.refresh_pre_spawn.help)
    basic_auth = Bool(True, config=True, help=GenericOAuthenticator.basic_auth.help)
    scope = List(
        Unicode(), ["openid", "profile", "email", "groups"], config=True, help=GenericOAuthenticator.scope.help
    )
    http_request_kwargs = Dict(config=True, help=GenericOAuthenticator.http_request_kwargs.help)
