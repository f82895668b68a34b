"""The first contact of a machine with its cluster: what the server says of itself is believed only after its hash was checked.

The certificate authority is public and is fetched from whoever answers; nothing is sent with that. Only a server whose certificate comes
from the authority that the join token names is ever shown the token's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl

from minikube_py.client.client import status_error
from minikube_py.client.http import HttpTransport
from minikube_py.meta.bootstraptoken import JoinToken
from minikube_py.meta.errors import StatusError

_SECONDS = 10.0


class JoinRefused(Exception):
    """This machine cannot join; the message says why and what to do. Trying again changes nothing."""


async def fetch_authority(server: str, token: JoinToken) -> bytes:
    """The PEM certificate that the cluster's servers are trusted by. Raises JoinRefused, TransportError, StatusError."""
    transport = HttpTransport(server, _trusting_anything(), timeout=_SECONDS)
    try:
        answer = await transport.request("GET", "/cacerts", accept="*/*")
    finally:
        await transport.close()
    if answer.status != 200:
        raise status_error(answer.body, answer.status)
    check_authority(answer.body, token, server)
    return answer.body


def check_authority(authority: bytes, token: JoinToken, server: str) -> None:
    """Raises JoinRefused where a certificate is not the one that a join token names."""
    if not hmac.compare_digest(hashlib.sha256(authority).hexdigest(), token.ca_hash):
        raise JoinRefused(
            f"the certificate of {server} is not the one that the token names: the token is another cluster's, or somebody is in between"
        )


def explain(error: StatusError) -> str:
    """What to do about an answer to a machine that joins."""
    if error.code == 401:
        return "the server does not know the token: it has ended or was deleted; make another with 'minikube-py token create' on the server"
    return error.message


def _trusting_anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
