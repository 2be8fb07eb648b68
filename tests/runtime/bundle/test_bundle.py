"""A bundle is what was exported and signed, whole and unchanged, or it is refused with its own message and code."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflock.runtime.bundle import bundle as bundle_module
from edgeflock.runtime.bundle.bundle import (
    Artefact,
    Bundle,
    Manifest,
    canonical,
    generate_key,
    read_manifest,
    sign_bundle,
    write_bundle,
)
from edgeflock.runtime.bundle.manifest import Training
from edgeflock.runtime.bundle.signing import read_private_key, read_public_key
from edgeflock.runtime.errors import (
    BundleError,
    BundleFileMissing,
    BundleKeyUntrusted,
    BundleSchemaTooNew,
    BundleSignatureInvalid,
    BundleTampered,
    InputError,
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def pub(key):
    return [key.with_suffix(".pub")]


def resign(folder, key, change):
    """Sign a manifest that `write_bundle` would never write: what a trusted but broken exporter could do."""
    document = json.loads((folder / "manifest.json").read_bytes())
    raw = change(document)
    raw = raw if isinstance(raw, bytes) else canonical(document)
    (folder / "manifest.json").write_bytes(raw)
    (folder / "manifest.sig").write_bytes(read_private_key(key).sign(raw))


# ---- what was written comes back


def test_a_signed_bundle_opens_and_gives_back_what_was_written(bundle, pub, nets, contents):
    opened = Bundle.open(bundle, pub)
    assert opened.artefact() == bundle / "fadnet_int8.onnx"
    assert opened.artefact("fp32").read_bytes() == nets.fp32.read_bytes()
    assert opened.manifest.artefacts["int8"].size == len(contents["fadnet_int8.onnx"])
    vectors = opened.vectors()
    assert np.array_equal(vectors["image"], nets.images) and vectors["image"].dtype == np.float32
    assert np.array_equal(vectors["steering_int8"], nets.steering["int8"])


def test_digest_is_the_sha256_of_the_manifest_file_and_changes_with_any_file(bundle, pub, key, manifest, contents):
    digest = Bundle.open(bundle, pub).digest
    assert digest == hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    contents["fadnet_fp32.onnx"] = contents["fadnet_fp32.onnx"].read_bytes() + b"\0"
    assert Bundle.open(sign_bundle(write_bundle(bundle, manifest, contents), key), pub).digest != digest


def test_canonical_bytes_are_sorted_compact_utf8(manifest):
    manifest.training = Training.model_validate({"b": 1, "a": {"z": "Höhe", "y": [1.5, None]}})
    assert b'"training":{"a":{"y":[1.5,null],"z":"H\xc3\xb6he"},"b":1,"command":"","syn' in canonical(manifest)
    assert json.loads(canonical(manifest)) == manifest.model_dump(mode="json")


def test_each_file_is_read_once(bundle, pub):
    script = f"from edgeflock.runtime.bundle.bundle import Bundle; Bundle.open({str(bundle)!r}, [{str(pub[0])!r}])"
    opened = []
    hook = "import sys\nopened=[]\nsys.addaudithook(lambda e, a: e == 'open' and opened.append(str(a[0])))\n"
    out = subprocess.run(
        [sys.executable, "-c", f"{hook}{script}\nprint('\\n'.join(opened))"], capture_output=True, text=True, check=True
    )
    opened = [Path(line).name for line in out.stdout.splitlines() if line.startswith(f"{bundle}{os.sep}")]
    assert sorted(opened) == sorted(p.name for p in bundle.iterdir())


def test_checks_are_told_as_they_pass(bundle, pub, key):
    lines = []
    Bundle.open(bundle, pub, lines.append)
    assert [line.split()[0] for line in lines] == [
        "schema", "signed", "manifest", "fadnet_fp32.onnx", "fadnet_int8.onnx", "vectors.safetensors",
    ]  # fmt: skip
    assert read_public_key(pub[0]).key_id in lines[1] and str(pub[0]) in lines[1]


def test_a_precision_that_is_not_there_is_named_with_those_that_are(bundle, pub):
    with pytest.raises(InputError, match=r"'fp16'.*fp32, int8"):
        Bundle.open(bundle, pub).artefact("fp16")


def test_keys_are_trusted_from_the_user_folder(bundle, pub, home):
    with pytest.raises(BundleKeyUntrusted):
        Bundle.open(bundle)
    keys = home / ".config/edgeflock/keys"
    keys.mkdir(parents=True)
    shutil.copy(pub[0], keys)
    assert Bundle.open(bundle).manifest.name == "test"


def test_signature_and_digest_can_be_checked_with_standard_tools(bundle, key, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl command here")
    public = tmp_path / "public.pem"
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", bundle / "manifest.json",
         "-sigfile", bundle / "manifest.sig"], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ---- refusals


@pytest.mark.parametrize("name", ["fadnet_fp32.onnx", "fadnet_int8.onnx", "vectors.safetensors"])
def test_a_changed_file_is_tampering(bundle, pub, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleTampered, match=f"{name} was changed"):
        Bundle.open(bundle, pub)


def test_a_changed_manifest_breaks_the_signature(bundle, pub):
    raw = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(raw.replace(b'"rmse_rad":0.05', b'"rmse_rad":0.04'))
    with pytest.raises(BundleSignatureInvalid, match="changed after signing"):
        Bundle.open(bundle, pub)


def test_a_reformatted_manifest_breaks_the_signature(bundle, pub):
    file = bundle / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()), indent=2))
    with pytest.raises(BundleSignatureInvalid):
        Bundle.open(bundle, pub)


def test_a_changed_signature_is_invalid(bundle, pub):
    data = bytearray((bundle / "manifest.sig").read_bytes())
    data[10] ^= 0x80
    (bundle / "manifest.sig").write_bytes(data)
    with pytest.raises(BundleSignatureInvalid):
        Bundle.open(bundle, pub)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_byte_change_in_any_file_is_refused(bundle, pub, data):
    name = data.draw(st.sampled_from(sorted(p.name for p in bundle.iterdir())))
    good = (bundle / name).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    (bundle / name).write_bytes(good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
    try:
        with pytest.raises(BundleError):
            Bundle.open(bundle, pub)
    finally:
        (bundle / name).write_bytes(good)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_file_is_refused(bundle, pub, data):
    name = data.draw(st.sampled_from(sorted(p.name for p in bundle.iterdir())))
    good = (bundle / name).read_bytes()
    (bundle / name).write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    try:
        with pytest.raises(BundleError):
            Bundle.open(bundle, pub)
    finally:
        (bundle / name).write_bytes(good)


def test_a_cut_manifest_says_so(bundle, pub):
    raw = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(raw[:-20])
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON.*cut or damaged"):
        Bundle.open(bundle, pub)


@pytest.mark.parametrize(
    "text", ["[]", "3", '"x"', "{}", '{"schema_version":"1"}', '{"schema_version":true}', "[" * 10**5]
)
def test_what_is_not_a_manifest_is_refused(bundle, pub, text):
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(bundle, pub)


@pytest.mark.parametrize("name", ["fadnet_fp32.onnx", "vectors.safetensors", "manifest.json"])
def test_a_missing_file_is_named(bundle, pub, name):
    (bundle / name).unlink()
    with pytest.raises(BundleFileMissing, match=name):
        Bundle.open(bundle, pub)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleFileMissing, match="nowhere"):
        Bundle.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net.onnx", r"the ONNX file .*net.onnx: `edgeflock bench run --net .*net.onnx`"),
        ("best.safetensors", r"weights .*best.safetensors: `edgeflock export steering --weights .*best.safetensors`"),
        ("model.pth", r"weights .*`edgeflock export steering --weights"),
        ("bundle.tar.gz", "an archive .*unpack it first"),
        ("bundle.zip", "an archive .*unpack it first"),
        ("manifest.json", "name its folder"),
        ("notes.txt", "`edgeflock export` makes a bundle"),
    ],
)
@pytest.mark.parametrize("opened", [Bundle.open, read_manifest, lambda path: sign_bundle(path, "key.pem")])
def test_a_file_where_a_bundle_belongs_says_what_it_is_good_for(tmp_path, opened, name, says):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=f"expected a bundle, a folder with manifest.json, got .*{says}"):
        opened(tmp_path / name)


def test_a_folder_of_bundles_names_them(bundle, pub):
    with pytest.raises(BundleFileMissing, match=rf"holds {bundle}: name one of them"):
        Bundle.open(bundle.parent, pub)


def test_an_unsigned_bundle_is_refused(tmp_path, manifest, contents, pub):
    with pytest.raises(BundleSignatureInvalid, match=r"not signed.*edgeflock bundle sign"):
        Bundle.open(write_bundle(tmp_path / "unsigned", manifest, contents), pub)


def test_a_bundle_that_lost_its_signature_is_refused(bundle, pub):
    (bundle / "manifest.sig").unlink()
    with pytest.raises(BundleSignatureInvalid, match="not signed"):
        Bundle.open(bundle, pub)


def test_an_unknown_key_is_not_trusted_and_the_message_says_where_keys_go(bundle, tmp_path):
    other = generate_key(tmp_path / "other.pem")
    with pytest.raises(BundleKeyUntrusted, match=rf"{other.key_id}.*\.config/edgeflock/keys"):
        Bundle.open(bundle, [tmp_path / "other.pub"])


def test_a_stranger_cannot_sign_in_the_name_of_a_trusted_key(bundle, pub, tmp_path):
    generate_key(tmp_path / "stranger.pem")
    raw = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.sig").write_bytes(read_private_key(tmp_path / "stranger.pem").sign(raw))
    with pytest.raises(BundleSignatureInvalid):
        Bundle.open(bundle, pub)


def test_a_newer_schema_is_told_before_its_unknown_fields(bundle, pub, key):
    resign(bundle, key, lambda d: d.update(schema_version=4, inputs="in a new way", news=1))
    with pytest.raises(BundleSchemaTooNew, match=r"version 4.*up to 3.*--upgrade"):
        Bundle.open(bundle, pub)


def test_a_bundle_from_before_the_first_release_is_refused(bundle, pub, key):
    resign(bundle, key, lambda d: d.update(schema_version=1))
    with pytest.raises(BundleError, match="version 1, from before the first release: export"):
        Bundle.open(bundle, pub)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(news=1), "news"),
        (lambda d: d.pop("net"), "net: Field required"),
        (lambda d: d.update(default_precision="fp16"), "default_precision 'fp16' is not among artefacts"),
        (lambda d: d["artefacts"]["fp32"].update(sha256="0" * 64), "another SHA-256 than files"),
        (lambda d: d["files"].pop("vectors.safetensors"), "lacks vectors.safetensors"),
        (lambda d: d["files"].update({"../secret": "0" * 64}), r"'\.\./secret' is not allowed"),
        (lambda d: d["files"].update({"/etc/passwd": "0" * 64}), "'/etc/passwd' is not allowed"),
        (lambda d: d["files"].update({"a\\b": "0" * 64}), "is not allowed"),
        (lambda d: d["files"].update({".hidden": "0" * 64}), "'.hidden' is not allowed"),
        (lambda d: d["files"].update({"x\n": "0" * 64}), "is not allowed"),
        (lambda d: d["files"].update({"manifest.sig": "0" * 64}), "'manifest.sig' is not allowed"),
        (lambda d: json.dumps(d).encode(), "not canonical"),
        (lambda d: canonical(d).replace(b"0.05", b"NaN"), "NaN and infinity"),
        (lambda d: canonical(d).replace(b"0.05", b"1e999"), "NaN and infinity"),
        (lambda d: canonical(d).replace(b'"net":', b'"net":"","net":'), "not canonical"),
    ],
)
def test_a_signed_but_broken_manifest_is_refused_with_the_field(bundle, pub, key, change, says):
    resign(bundle, key, change)
    with pytest.raises(BundleError, match=says) as caught:
        Bundle.open(bundle, pub)
    assert type(caught.value) is BundleError


def test_an_extra_file_is_refused(bundle, pub):
    (bundle / "run_me.py").write_text("")
    with pytest.raises(BundleTampered, match=r"run_me\.py is not listed"):
        Bundle.open(bundle, pub)


def test_a_subfolder_is_refused(bundle, pub):
    (bundle / "more").mkdir()
    with pytest.raises(BundleTampered, match="more is not a plain file"):
        Bundle.open(bundle, pub)


@pytest.mark.parametrize("name", ["fadnet_fp32.onnx", "manifest.json", "manifest.sig"])
def test_a_symbolic_link_is_refused_even_to_the_right_bytes(bundle, pub, tmp_path, name):
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleTampered, match=f"{name} is a symbolic link"):
        Bundle.open(bundle, pub)


def test_the_folder_itself_may_be_a_link(bundle, pub, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    assert Bundle.open(tmp_path / "current", pub).path == bundle


def test_each_refusal_has_its_own_exit_code():
    codes = [
        cls.exit_code
        for cls in (
            BundleError, BundleFileMissing, BundleTampered, BundleSignatureInvalid, BundleKeyUntrusted,
            BundleSchemaTooNew,
        )
    ]  # fmt: skip
    assert codes == [10, 11, 12, 13, 14, 15]


# ---- writing and signing


def test_write_refuses_an_artefact_without_file(tmp_path, manifest, contents):
    del contents["fadnet_int8.onnx"]
    with pytest.raises(BundleError, match=r"int8 names 'fadnet_int8\.onnx'"):
        write_bundle(tmp_path / "b", manifest, contents)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["../escape", "sub/file", "manifest.json"])
def test_write_refuses_names_outside_the_folder(tmp_path, manifest, contents, name):
    with pytest.raises(BundleError, match="is not allowed"):
        write_bundle(tmp_path / "b", manifest, {**contents, name: b""})
    assert list(tmp_path.iterdir()) == []


def test_write_refuses_nan(tmp_path, manifest, contents):
    manifest.training = Training.model_construct(rmse_rad=float("nan"))
    with pytest.raises(BundleError, match=r"training\.rmse_rad.*finite"):
        write_bundle(tmp_path / "b", manifest, contents)


def test_write_never_replaces_what_is_not_a_bundle(tmp_path, manifest, contents):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("words")
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(tmp_path / "thesis", manifest, contents)
    assert (tmp_path / "thesis/chapter1.tex").read_text() == "words"


@pytest.mark.parametrize("fail_at", range(6))
def test_a_write_that_fails_leaves_the_older_bundle_whole(bundle, pub, manifest, contents, monkeypatch, fail_at):
    digest = Bundle.open(bundle, pub).digest
    calls = iter(range(10))

    def failing(original):
        def call(*args):
            if next(calls) == fail_at:
                raise OSError(28, "No space left on device")
            return original(*args)

        return call

    monkeypatch.setattr(bundle_module, "replacing", failing(bundle_module.replacing))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(bundle, manifest, contents)
    assert Bundle.open(bundle, pub).digest == digest
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_a_process_killed_while_writing_loses_nothing(bundle, pub, tmp_path):
    digest = Bundle.open(bundle, pub).digest
    script = f"""
import os, signal
from pathlib import Path
from edgeflock.runtime.bundle import bundle as b
old = b.Bundle.open({str(bundle)!r}, [{str(pub[0])!r}])
rename = Path.rename
def rename_then_die(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename_then_die
b.write_bundle(old.path, old.manifest, {{n: old.path / n for n in old.manifest.files}})
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    (kept,) = bundle.parent.glob(".steering.*/steering.old")
    assert Bundle.open(kept, pub).digest == digest


def test_signing_checks_the_files_first(bundle, key):
    (bundle / "fadnet_fp32.onnx").write_bytes(b"something else")
    with pytest.raises(BundleTampered):
        sign_bundle(bundle, key)


def test_signing_again_with_another_key_replaces_the_signature(bundle, pub, tmp_path):
    generate_key(tmp_path / "other.pem")
    sign_bundle(bundle, tmp_path / "other.pem")
    assert Bundle.open(bundle, [tmp_path / "other.pub"])
    with pytest.raises(BundleKeyUntrusted):
        Bundle.open(bundle, pub)


def test_a_bundle_in_a_folder_that_cannot_be_written_is_reported(tmp_path, manifest, contents):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        write_bundle(tmp_path / "file" / "b", manifest, contents)


def test_vectors_that_are_not_safetensors_are_refused(tmp_path, manifest, contents, key, pub):
    folder = write_bundle(tmp_path / "b", manifest, {**contents, "vectors.safetensors": b"not a tensor"})
    with pytest.raises(BundleError, match="safetensors"):
        Bundle.open(sign_bundle(folder, key), pub).vectors()


def test_a_manifest_refuses_nan_and_unknown_fields():
    from pydantic import ValidationError

    artefacts = {"fp32": Artefact(file="a.onnx", opset=17, ir=8)}
    with pytest.raises(ValidationError, match="extra"):
        Manifest(name="n", net="FADNet", artefacts=artefacts, default_precision="fp32", colour="red")
    with pytest.raises(ValidationError, match="finite"):
        Manifest(
            name="n",
            net="FADNet",
            artefacts=artefacts,
            default_precision="fp32",
            inputs=[{"kind": "image", "range": [0, np.nan]}],
        )
