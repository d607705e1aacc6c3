"""What is drawn is what a camera reads, and what the rules take."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import zxingcpp
from PIL import Image

from cli import qr
from rules.codes import Code, issue_person_code, issue_site_code, parse

KEYS = {3: bytes(range(32))}
PERSON = "0123456789abcdef0123456789abcdef"
NOON_S = 1_764_072_000

CODES = {
    "person": (issue_person_code(KEYS, PERSON, NOON_S), PERSON),
    "site": (issue_site_code(KEYS, "SH-PD-0001", NOON_S), "SH-PD-0001"),
    "longest site": (issue_site_code(KEYS, "𠮷" * 64, NOON_S), "𠮷" * 64),
}
codes = pytest.mark.parametrize(("text", "identifier"), CODES.values(), ids=CODES)


def scan(image: Image.Image) -> str:
    (found,) = zxingcpp.read_barcodes(image.convert("L"))
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return found.text


def assert_code(text: str, identifier: str) -> None:
    code = parse(KEYS, text)
    assert isinstance(code, Code)
    assert code.id == identifier


@codes
@pytest.mark.parametrize("scale", [2, qr.SCALE])
def test_a_png_scans(text: str, identifier: str, scale: int) -> None:
    scanned = scan(Image.open(io.BytesIO(qr.png(text, scale))))
    assert scanned == text
    assert_code(scanned, identifier)


@codes
def test_the_terminal_scans(text: str, identifier: str) -> None:
    """Each character is two modules, one above the other: light where the block is filled."""
    halves = {" ": (0, 0), "▀": (255, 0), "▄": (0, 255), "█": (255, 255)}
    rows = [
        [halves[character][half] for character in line]
        for line in qr.terminal(text).splitlines()
        for half in (0, 1)
    ]
    image = Image.new("L", (len(rows[0]), len(rows)))
    image.putdata([value for row in rows for value in row])
    scanned = scan(image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST))
    assert scanned == text
    assert_code(scanned, identifier)


@codes
def test_the_svg_draws_the_same_modules_as_the_png(text: str, identifier: str) -> None:
    root = ElementTree.fromstring(qr.svg(text, scale=4))
    side = int(root.attrib["width"]) // 4
    image = Image.new("L", (side, side), 255)
    grounds = 0
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        if path.get("stroke") is None:
            # Without a ground of its own it would not scan on a dark page.
            assert (path.get("fill"), path.get("d")) == ("#fff", f"M0 0h{side}v{side}h-{side}z")
            grounds += 1
            continue
        x, y = 0.0, 0.0
        for command, numbers in re.findall(r"([Mmh])([-0-9. ]+)", path.attrib["d"]):
            values = [float(number) for number in numbers.split()]
            if command == "h":
                for column in range(int(x), int(x + values[0])):
                    image.putpixel((column, int(y)), 0)
                x += values[0]
            elif command == "M":
                x, y = values[0], values[1]
            else:
                x, y = x + values[0], y + values[1]
    assert grounds == 1
    png = Image.open(io.BytesIO(qr.png(text, scale=1))).convert("L")
    assert image.tobytes() == png.tobytes()


def test_a_file_is_drawn_by_its_suffix(tmp_path: Path) -> None:
    text, _ = CODES["person"]
    qr.save(text, tmp_path / "code.png")
    assert scan(Image.open(tmp_path / "code.png")) == text
    qr.save(text, tmp_path / "code.SVG", scale=2)
    assert (tmp_path / "code.SVG").read_bytes() == qr.svg(text, scale=2)
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        qr.save(text, tmp_path / "code.jpg")
    assert not (tmp_path / "code.jpg").exists()


@pytest.mark.parametrize("text", ["", "RN:abc", "RN:工地", "RN:" + "A" * 5_000])
def test_what_is_no_code_is_not_drawn(text: str) -> None:
    with pytest.raises(ValueError, match=r"alphanumeric|too large"):
        qr.png(text)
    with pytest.raises(ValueError, match=r"alphanumeric|too large"):
        qr.terminal(text)
