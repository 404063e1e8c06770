"""Sign a picture's provenance by the standard of C2PA, so that its mark cannot be changed unnoticed.

The one decision: nobody is signed for. The certificate and the key are the user's own files; nothing is fetched and no
time stamp is asked for. A certificate that one made oneself proves that the picture was not changed since, but readers
will not know whose it is. Needs ``pip install 'sdkit-notebooks[c2pa]'``.
"""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

from sdkit import __version__
from sdkit.errors import CannotSave, MissingExtra

from .files import path_of
from .metadata import digital_source_type

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["Signature", "signed"]

Signature = tuple["str | os.PathLike[str]", "str | os.PathLike[str]"]
"""PEM files: the certificate with those that issued it, and its private key."""


def signed(picture: bytes, kind: str, settings: Settings, signature: Signature) -> bytes:
    """The same picture file with a signed C2PA manifest inside.

    Parameters
    ----------
    picture
        Contents of a PNG, JPEG or WebP file.
    kind
        Pillow's name of its format.
    settings
        What made the picture.
    signature
        PEM files of the certificate chain and of the private key (EC, RSA-PSS or Ed25519).

    Raises
    ------
    MissingExtra
        If c2pa-python is not installed.
    CannotSave
        If the certificate or the key cannot be read or used, in one sentence.
    """
    try:
        import c2pa
    except ImportError:
        raise MissingExtra(
            "signing needs c2pa-python: pip install 'sdkit-notebooks[c2pa]'"
        ) from None
    certificate, key = (_read(file) for file in signature)
    target = io.BytesIO()
    try:
        info = c2pa.C2paSignerInfo(_algorithm(key, c2pa.C2paSigningAlg), certificate, key, None)
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(_manifest(settings))) as builder,
        ):
            builder.sign(signer, f"image/{kind.lower()}", io.BytesIO(picture), target)
    except (c2pa.C2paError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CannotSave(
            f"cannot sign with {os.fspath(signature[0])!r} ({reason}): give PEM files of a certificate that may sign documents, with those that issued it, and of its key"
        ) from error
    return target.getvalue()


def _manifest(settings: Settings) -> dict[str, Any]:
    """What is signed: that a model made the picture, and which program ran it."""
    agent = {"name": "sdkit-notebooks", "version": __version__}
    action = {
        "action": "c2pa.created",
        "digitalSourceType": digital_source_type(settings),
        "softwareAgent": agent,
    }
    return {
        "claim_generator_info": [agent],
        "title": "picture",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _algorithm(key: bytes, names: Any) -> Any:
    """The signature algorithm that a private key is for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    private = serialization.load_pem_private_key(key, password=None)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return names.ED25519
    if isinstance(private, ec.EllipticCurvePrivateKey):
        known = {"secp256r1": names.ES256, "secp384r1": names.ES384, "secp521r1": names.ES512}
        if private.curve.name not in known:
            raise ValueError(
                f"C2PA has no signature for keys on the curve {private.curve.name}, only P-256, P-384, P-521"
            )
        return known[private.curve.name]
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError(f"{type(private).__name__} is no kind of key that C2PA signs with")  # noqa: TRY004 - told as one
    return names.PS256


def _read(file: str | os.PathLike[str]) -> bytes:
    try:
        return path_of(file).read_bytes()
    except OSError as error:
        raise CannotSave(
            f"cannot read {os.fspath(file)!r} to sign with: {error.strerror}; check the path"
        ) from error
