"""What all figures share: colours, fonts, and how they become PNG files.

Figures are made as objects, without pyplot: no global state, no window, nothing left open. Colours
are those of Okabe and Ito, which people with the common kinds of colour blindness tell apart; what
a colour says, a label, marker or line style says too.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Drawing
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from PIL import Image

from tagger.files import replacing
from tagger.reporting.page import Figure, Figures

BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK)
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Arial Unicode MS",
)  # fmt: skip

_DPI = 144
_PALETTE = 64


@dataclass(frozen=True)
class Plot:
    """A figure that was drawn, and what it shows, in words; a wide one takes a row of its own."""

    drawing: Drawing
    text: str
    wide: bool = False


def write_figures(plots: Mapping[str, Plot | None], folder: Path) -> Figures:
    """Write `NAME.png` for each plot; where there is none, remove what an earlier report left."""
    written = []
    for name, plot in plots.items():
        path = folder / f"{name}.png"
        if plot is None:
            path.unlink(missing_ok=True)
            continue
        write_figure(plot.drawing, path)
        written.append(Figure(path, plot.text, plot.wide))
    return Figures(written)


def write_figure(drawing: Drawing, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Names of tags and slices are anybody's: a dollar in them begins no formula, and other scripts
    than Latin take the fonts that are installed for them. A sign that no font has is a box.
    """
    installed = set(get_font_names())
    families = ["DejaVu Sans", *(font for font in _OTHER_SCRIPTS if font in installed)]
    for text in drawing.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(families)
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing.savefig(drawn, dpi=_DPI, format="png")
    with replacing(path) as temporary:
        temporary.write_bytes(shrink_png(drawn.getvalue()))


def shrink_png(drawn: bytes) -> bytes:
    """Give a PNG file of a figure a palette: it has a third of its bytes and looks the same.

    No library's version is in it: the same figure is the same file everywhere.
    """
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    shrunk = io.BytesIO()
    image.quantize(_PALETTE, dither=Image.Dither.NONE).save(shrunk, "png", optimize=True)
    return shrunk.getvalue()
