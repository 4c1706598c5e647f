"""Any text in letters that every LaTeX compiles, without packages for fonts or encodings."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_SYMBOLS = {
    "–": "--",
    "—": "---",
    "‐": "-",
    "‑": "-",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "„": '"',
    "«": '"',
    "»": '"',
    "•": r"\textbullet{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "™": r"\texttrademark{}",
    "®": r"\textregistered{}",
    "£": r"\pounds{}",
    "€": "EUR",
    "⁄": "/",
    "ß": r"\ss{}",
    "Æ": r"\AE{}",
    "æ": r"\ae{}",
    "Œ": r"\OE{}",
    "œ": r"\oe{}",
    "Ø": r"\O{}",
    "ø": r"\o{}",
    "Ł": r"\L{}",
    "ł": r"\l{}",
    "ı": r"\i{}",
    "Đ": "D",
    "đ": "d",
    "Þ": "Th",
    "þ": "th",
    "ð": "d",
}
_MATHEMATICS = {
    "±": r"\pm",
    "∓": r"\mp",
    "×": r"\times",
    "÷": r"\div",
    "·": r"\cdot",
    "∙": r"\cdot",
    "−": "-",
    "≤": r"\leq",
    "≥": r"\geq",
    "≠": r"\neq",
    "≈": r"\approx",
    "≡": r"\equiv",
    "∞": r"\infty",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "∆": r"\Delta",
    "∑": r"\sum",
    "√": r"\surd",
    "∈": r"\in",
    "∩": r"\cap",
    "∪": r"\cup",
    "°": r"^{\circ}",
    "²": "^{2}",
    "³": "^{3}",
    "¹": "^{1}",
    "µ": r"\mu",
    "¬": r"\neg",
    "ς": r"\varsigma",
}
# TeX has commands for the Greek letters that do not look like Latin ones.
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega"
)
_GREEK_CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
_GREEK_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u ",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r ",
    "\u030b": "H ",
    "\u030c": "v ",
    "\u0323": "d ",
    "\u0327": "c ",
}

_DOTLESS = {"i": r"\i", "j": r"\j"}


def _known() -> dict[str, str]:
    known = {**_SPECIAL, **_SYMBOLS, **_GREEK_LIKE_LATIN}
    known |= {letter: f"${command}$" for letter, command in _MATHEMATICS.items()}
    for name in _GREEK.split():
        # Unicode spells lambda as Greeks do.
        spelled = name.upper().replace("LAMBDA", "LAMDA")
        known[unicodedata.lookup(f"GREEK SMALL LETTER {spelled}")] = rf"$\{name}$"
    for name in _GREEK_CAPITALS.split():
        spelled = name.upper().replace("LAMBDA", "LAMDA")
        known[unicodedata.lookup(f"GREEK CAPITAL LETTER {spelled}")] = rf"$\{name}$"
    return known


_KNOWN = _known()
_UNCOMMON = re.compile(r"[^ -~]|--|[" + re.escape("".join(_SPECIAL)) + "]")


@lru_cache(maxsize=2**16)
def tex(text: str) -> str:
    """Text as LaTeX shows it, in one line: symbols are commands, letters get their accents.

    Letters of other scripts stand there by their number: [U+6F22 U+5B57]. Two hyphens stay two, and are no dash.
    """
    line = " ".join(text.split())
    if not _UNCOMMON.search(line):
        return line
    letters = unicodedata.normalize("NFC", line)
    written = [_letter(letter) for letter in letters]
    for place in range(1, len(letters)):
        if letters[place - 1 : place + 1] == "--":
            written[place] = "{}-"
    # Words of another script are one bracket, not one a letter.
    return "".join(written).replace("][U+", " U+")


def _letter(letter: str) -> str:
    if letter in _KNOWN:
        return _KNOWN[letter]
    if " " <= letter <= "~":
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    base = [part for part in parts if not unicodedata.combining(part)]
    if all(part in _KNOWN or " " <= part <= "~" for part in base):
        # One with accents; or a ligature, a fraction, a letter of full width. A lone accent is nothing.
        written = "".join(_KNOWN.get(part, part) for part in base)
        return _accented(base[0], written, parts[1:]) if len(base) == 1 else written
    return "" if unicodedata.category(letter) == "Cf" else f"[U+{ord(letter):04X}]"


def _accented(base: str, written: str, accents: str) -> str:
    for accent in accents if base.isalpha() and base.isascii() else "":
        if accent in _ACCENTS:
            written = rf"\{_ACCENTS[accent]}{{{_DOTLESS.get(written, written)}}}".replace(" {", "{")
    return written
