"""Signed provenance: an independent reader finds the mark, and notices every change."""

import datetime as dt
import io
import json

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from sdkit.errors import CannotSave
from sdkit.result import Result, load_result
from sdkit.settings import Settings


def certificate(name, public, issuer, issuer_key, *, authority):
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    usage = dict.fromkeys(
        [
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only",
        ],
        False,
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                **usage,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not authority:
        built = built.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    return built.sign(issuer_key, hashes.SHA256())


def named(name):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A workshop"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


@pytest.fixture(scope="module", params=["p256", "ed25519"])
def signature(request, tmp_path_factory):
    """PEM files of a chain made here, and of the key of its last certificate."""
    folder = tmp_path_factory.mktemp(request.param)
    top = ec.generate_private_key(ec.SECP256R1())
    own = (
        ec.generate_private_key(ec.SECP256R1())
        if request.param == "p256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    chain = [
        certificate("signer", own.public_key(), "top", top, authority=False),
        certificate("top", top.public_key(), "top", top, authority=True),
    ]
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(b"".join(c.public_bytes(pem) for c in chain))
    (folder / "key.pem").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "chain.pem", folder / "key.pem"


def result(task="text-to-image"):
    return Result([Image.new("RGB", (32, 32), "teal")], [Settings("a cat", seed=7, task=task)])


def read(path, kind):
    with c2pa.Reader(f"image/{kind}", io.BytesIO(path.read_bytes())) as reader:
        told = json.loads(reader.json())
    codes = {c["code"] for c in told.get("validation_status", [])}
    return told["manifests"][told["active_manifest"]], codes


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "png"), (".jpg", "jpeg"), (".webp", "webp")])
def test_a_signed_picture_says_who_made_it_and_keeps_its_settings(
    tmp_path, signature, suffix, kind
):
    path = result().save(tmp_path / f"cat{suffix}", sign=signature)
    manifest, codes = read(path, kind)
    actions = next(a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))[
        "data"
    ]["actions"]
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert manifest["claim_generator_info"][0]["name"] == "sdkit-notebooks"
    assert codes <= {"signingCredential.untrusted"}  # intact; whose it is, nobody has vouched for
    assert load_result(path).settings.seed == 7


def test_a_changed_picture_is_noticed(tmp_path, signature):
    path = result("inpainting").save(tmp_path / "cat.jpg", sign=signature)
    manifest, _ = read(path, "jpeg")
    assert "compositeWithTrainedAlgorithmicMedia" in json.dumps(manifest)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert "assertion.dataHash.mismatch" in read(path, "jpeg")[1]


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_a_key_on_a_curve_that_the_standard_lacks_is_named(tmp_path, signature, curve):
    key = ec.generate_private_key(curve).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(key)
    with pytest.raises(CannotSave, match=f"keys on the curve {curve.name}, only P-256"):
        result().save(tmp_path / "cat.png", sign=(signature[0], tmp_path / "key.pem"))


def test_what_cannot_sign_leaves_nothing(tmp_path, signature):
    with pytest.raises(CannotSave, match=r"cannot read '.*no\.pem' to sign with: No such file"):
        result().save(tmp_path / "cat.png", sign=(tmp_path / "no.pem", signature[1]))
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(CannotSave, match="cannot sign with .*chain.pem"):
        result().save(tmp_path / "cat.png", sign=(signature[0], tmp_path / "key.pem"))
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]
