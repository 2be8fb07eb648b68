"""Picture files as people have them: endings, bits, phones, and what is said about those that are not read."""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeflock.runtime.cameras.pictures import PICTURES, decode_picture, is_picture, not_read, read_picture
from edgeflock.runtime.errors import InputError, MissingExtra

COLOURS = np.array([[[30, 30, 200], [30, 200, 30]], [[200, 30, 30], [200, 200, 200]]], np.uint8)
QUARTERS = np.kron(COLOURS, np.ones((24, 32, 1), np.uint8))
"""BGR: red, green, blue and grey."""

# The same, 64x48, as an iPhone would write it; made by pillow-heif, which has the encoder.
HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mg"
    "E07O6l0RRC200001p#T8@00000006@P001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}X>f9I000"
    "2pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00"
    "RI30{|YNAb|yz>g1-"
    "mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RKmY&$0RR"
    "91FaQ7m0RR91000000{{R2@Bjb+0ssI25O8UDX#fBK00RgJ2mk;87-"
    "?{AVE_OC000000RRC7fdT^sga7~l%WY&~bN~PVzbFB(3E&|(ssHmlZ~pw9m$b(xm8ZX0|NOVFytp6z`Wtk9jjuQV8l%5J8vlel6ALHB+"
    "GCWMc-EfsDX;G?mNkQ-WFV^M7VT%|A$bf+PyqLi#dE|owPkjSPpB8UY~Rc6yFeK*1UM$)(aJ(Mve%K=*BCtj0e65Qlr2fs`6is}wH%(F"
    "S*LP%>JO+&+bN5zbPVZ9>~@lKS~qS!bNYGgD4k6zefL!Zyoch>ApKe(PtEym9=1H6!G!4`"
)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "jp2", "JPG"])
def test_pictures_of_many_endings_are_read(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    assert cv2.imwrite(str(path), QUARTERS) and is_picture(path)
    assert np.abs(read_picture(path).astype(int) - QUARTERS).mean() < 12  # JPEG's and WebP's colours at the borders


def test_grey_and_transparent_pictures_and_gifs_are_read(tmp_path):
    from PIL import Image

    grey = cv2.cvtColor(QUARTERS, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "a.pgm"), grey)
    assert np.array_equal(read_picture(tmp_path / "a.pgm")[:, :, 1], grey)
    assert np.array_equal(read_picture(tmp_path / "a.pgm", cv2.IMREAD_ANYCOLOR), grey)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([QUARTERS, np.full(grey.shape, 128, np.uint8)]))
    assert np.array_equal(read_picture(tmp_path / "a.png"), QUARTERS)
    frames = [Image.fromarray(QUARTERS[:, :, ::-1]), Image.fromarray(QUARTERS)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.abs(read_picture(tmp_path / "a.gif").astype(int) - QUARTERS).max() < 8  # the first of two


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_sixteen_bits_are_as_bright_as_what_they_hold(bits, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.rint(QUARTERS * (((1 << bits) - 1) / 255)).astype(np.uint16))
    assert np.abs(read_picture(path).astype(int) - QUARTERS).max() <= 1


def test_a_picture_is_upright_by_its_exif(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    Image.fromarray(QUARTERS[:, :, ::-1]).save(tmp_path / "a.png", exif=exif)
    assert read_picture(tmp_path / "a.png").shape == (64, 48, 3)


def test_phones_photographs_are_read_whatever_their_ending_says(tmp_path):
    pytest.importorskip("pi_heif")
    for name in ("a.heic", "a.HIF", "a.jpg"):
        (tmp_path / name).write_bytes(HEIC)
        assert is_picture(tmp_path / name)
        assert np.abs(read_picture(tmp_path / name).astype(int) - QUARTERS).mean() < 8
    with pytest.raises(InputError, match="expected a whole HEIC picture, got 300 bytes"):
        decode_picture(HEIC[:300], ".heic")


def test_without_what_reads_them_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingExtra, match=r'pip install "edgeflock\[heic\]"'):
        decode_picture(HEIC, ".heic")


def png_of(width: int, height: int) -> bytes:
    """A PNG that says to be so large."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("big.png", png_of(60000, 20000), "expected at most 2.30 pixels"),
        ("empty.jpg", b"", "got 0 bytes that do not decode"),
        ("cut.jpg", cv2.imencode(".jpg", QUARTERS)[1].tobytes()[:400], "got 400 bytes that do not decode"),
        ("text.png", b"no picture", "got 10 bytes that do not decode"),
        ("deep.tif", cv2.imencode(".tif", QUARTERS / np.float32(255))[1].tobytes(), "got .tif of float32: make PNG"),
        ("raw.dng", b"II*\0", "got .dng: make JPEG or PNG of it"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_its_name(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{said}"):
        read_picture(tmp_path / name)


def test_pictures_that_are_not_read_are_counted_where_they_lie_among_others():
    names = ["a.jpg", "b.dng", "c.DNG", "d.avif", "notes.txt", "._e.dng"]
    assert not_read(map(Path, names)) == "1 .avif, 2 .dng"
    assert not is_picture(Path("._a.jpg")) and all(is_picture(Path(f"a{ending}")) for ending in PICTURES)
