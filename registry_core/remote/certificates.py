"""The trusted certificates: the system's and those of `ca_file`. The environment is not used.

`ssl.create_default_context` would read SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE: a user who sets one of them for
another program would change which servers this one trusts, or have its session keys written to a file.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError

__all__ = ["client_context"]

# The bundles of common systems, for a Python whose OpenSSL looks elsewhere.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def client_context(ca_file: Optional[str], *, is_needed: bool = True) -> ssl.SSLContext:
    """A context that checks certificates and names, with TLS 1.2 or later. Raises StoreError for a bad `ca_file`.

    If it is not needed it trusts no certificate: loading the system's would waste memory.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as strict as Python's own default context
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if not is_needed:
        return context
    _trust_the_system(context)
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StoreError(ca_file, f"cannot be used as a CA file: {error.strerror or error}") from None
    return context


def _trust_the_system(context: ssl.SSLContext) -> None:
    if sys.platform == "win32":
        for store in ("CA", "ROOT"):
            for certificate, encoding, trust in ssl.enum_certificates(store):
                if encoding == "x509_asn" and (trust is True or ssl.Purpose.SERVER_AUTH.oid in trust):
                    with contextlib.suppress(ssl.SSLError):  # skip one that cannot be read
                        context.load_verify_locations(cadata=certificate)
        return
    places = (
        ssl.get_default_verify_paths()
    )  # use openssl_…, which are built in; the others may come from the environment
    has_folder = Path(places.openssl_capath).is_dir()
    if has_folder:
        context.load_verify_locations(capath=places.openssl_capath)
    for bundle in (places.openssl_cafile, *(() if has_folder and _holds(places.openssl_capath) else _BUNDLES)):
        if Path(bundle).is_file():
            with contextlib.suppress(ssl.SSLError):  # an empty bundle: try the next one
                context.load_verify_locations(cafile=bundle)
                return


def _holds(folder: str) -> bool:
    """Whether the folder has certificates under their hashed names, such as `a1b2c3d4.0`."""
    return any(Path(folder).glob("*.0"))
