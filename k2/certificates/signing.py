"""Signatures of certificates: Ed25519 over the canonical bytes of the document without its signature."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2.certificates.canonical import canonical_text
from k2.model.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["has_valid_signature", "new_key", "private_key", "public_key_hex", "public_key_of_file", "signed"]


def new_key(path: Path) -> str:
    """Write a new private key to a file that only its owner can read, and return its public key.

    The public key is written next to it, with `.pub` added to the name.

    Raises:
        SettingsError: one of the files exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415  only signatures need it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(f"{path.name}.pub")
    for file, content, mode in ((path, private, 0o600), (public_path, public, 0o644)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except OSError as error:
            raise SettingsError(f"--new-key {file}: {error.strerror}; name a file that does not exist") from None
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    return public_key_hex(key)


def private_key(path: Path) -> "Ed25519PrivateKey":
    """Read a private key.

    Raises:
        SettingsError: the file cannot be read, others can read it, or it is no Ed25519 key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    content = _read(path, "--key")
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"--key {path}: others can read it; run `chmod 600` on it")
    try:
        key = load_pem_private_key(content, None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"--key {path}: not a private key in PEM without a password; use --new-key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"--key {path}: not an Ed25519 key; use --new-key")
    return key


def public_key_of_file(path: Path) -> str:
    """Return the public key in a file, 64 hexadecimal digits.

    Raises:
        SettingsError: the file cannot be read, or is no Ed25519 public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    content = _read(path, "--public-key")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"--public-key {path}: not an Ed25519 public key in PEM; use the .pub file of the key")
    return key.public_bytes_raw().hex()


def public_key_hex(key: "Ed25519PrivateKey") -> str:
    """Return the public key of a private one, 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def signed(document: Mapping[str, Any], key: "Ed25519PrivateKey | None") -> dict[str, Any]:
    """Return a document with its `public_key` and `signature`; both are null without a key."""
    named = {**document, "public_key": None if key is None else public_key_hex(key)}
    return {**named, "signature": None if key is None else key.sign(canonical_text(named)).hex()}


def has_valid_signature(document: Mapping[str, Any]) -> bool:
    """Return whether the signature is by the document's own public key, over its other fields."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    content = canonical_text({name: value for name, value in document.items() if name != "signature"})
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(document["public_key"]))
        key.verify(bytes.fromhex(document["signature"]), content)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{option} {path}: {error.strerror}; name a key file") from None
