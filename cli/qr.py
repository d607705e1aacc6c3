"""Codes to scan, drawn as QR symbols: PNG, SVG, or characters for a terminal.

Always a full QR code in alphanumeric mode, the densest for the characters of a code: a text that
needs another mode is no code and is refused. Error correction is M (about 15 % may be unreadable)
or better where the same size allows it: phones show the codes, paper at a gate gets dirty.
"""

from __future__ import annotations

from io import BytesIO, StringIO
from pathlib import Path
from typing import Final

import segno

SCALE: Final = 8
"""Pixels (PNG) or user units (SVG) a module."""


def png(text: str, scale: int = SCALE) -> bytes:
    """A PNG file, black on white with the quiet zone. Raises ValueError as `save` does."""
    return _bytes(text, "png", scale)


def svg(text: str, scale: int = SCALE) -> bytes:
    """An SVG file, black on white with the quiet zone. Raises ValueError as `save` does."""
    return _bytes(text, "svg", scale)


def terminal(text: str) -> str:
    """Lines of half-block characters with the quiet zone, for light characters on a dark ground.

    Raises ValueError as `save` does.
    """
    out = StringIO()
    _symbol(text).terminal(out, compact=True)
    return out.getvalue()


def save(text: str, path: Path, scale: int = SCALE) -> None:
    """Write a file, PNG or SVG by the path's suffix.

    Raises ValueError for another suffix, and for a text that is not of the QR alphanumeric set or
    too long for a symbol; OSError when the file cannot be written.
    """
    match path.suffix.lower():
        case ".png":
            drawn = png(text, scale)
        case ".svg":
            drawn = svg(text, scale)
        case suffix:
            raise ValueError(f"a code is drawn as .png or .svg, not {suffix!r}")
    path.write_bytes(drawn)


def _symbol(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="m", mode="alphanumeric")


def _bytes(text: str, kind: str, scale: int) -> bytes:
    out = BytesIO()
    _symbol(text).save(out, kind=kind, scale=scale, light="white")
    return out.getvalue()
