"""TLS contexts of servers that identify their clients by certificate.

Two trust stores must not become one (a front-proxy's certificate may set headers, a client's may not), and a wrong or expired client
certificate is to be answered with 401, as upstream does. OpenSSL's own verification can do neither: it trusts the union of what was
loaded, and breaks the handshake. So the server asks for a certificate, lets any through the handshake (the client has proved that it
holds the key, whatever the certificate says), and the authenticator checks issuer, dates and usage before it believes a word of it.
"""

from __future__ import annotations

import ctypes
import ssl
from pathlib import Path

_NO_CHECK_TIME = 0x200000
_VERIFY_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _accept(store: int | None, argument: int | None) -> int:
    return 1


_accept_callback = _VERIFY_CALLBACK(_accept)


def server_context(certificate: Path | None, key: Path | None, client_authorities: bytes = b"") -> ssl.SSLContext:
    """A server's context; with `client_authorities` (PEM) clients are asked for a certificate of one of them, and need not have one.

    Without a certificate every handshake fails until one is loaded into the context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_authorities:
        # the names of these authorities are told to the client, which picks its certificate by them
        context.load_verify_locations(cadata=client_authorities.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
        _accept_every_certificate(context)
    return context


def client_context(authorities: bytes, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A client's context that trusts these authorities (PEM) and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authorities.decode())
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def _accept_every_certificate(context: ssl.SSLContext) -> bool:
    """Have OpenSSL leave the judgement to us. The ssl module has no way to say it, so OpenSSL is told directly: an SSLContext object holds
    its SSL_CTX right after the object header in every CPython. Where the symbols cannot be reached (OpenSSL linked statically and
    hidden), a certificate of an unknown authority breaks the handshake instead of being answered; nothing is less safe then."""
    import _ssl

    try:
        library = ctypes.CDLL(_ssl.__file__)
        get_mode, set_callback = library.SSL_CTX_get_verify_mode, library.SSL_CTX_set_cert_verify_callback
    except (AttributeError, OSError):
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    get_mode.argtypes, get_mode.restype = [ctypes.c_void_p], ctypes.c_int
    set_callback.argtypes, set_callback.restype = [ctypes.c_void_p, _VERIFY_CALLBACK, ctypes.c_void_p], None
    if pointer.value is None or get_mode(pointer) != 1:  # SSL_VERIFY_PEER, which CERT_OPTIONAL has set
        return False
    set_callback(pointer, _accept_callback, None)
    return True
