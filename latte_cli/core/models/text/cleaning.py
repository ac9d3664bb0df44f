"""Clean captions as Latte's pipeline does: remove URLs, markup, advertising and unusual punctuation.

The steps are those of diffusers' LattePipeline, adopted from DeepFloyd IF. The result must be identical, so
even apparent mistakes are kept.
"""

import html
import re
import warnings
from urllib.parse import unquote_plus

URL_TAIL = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)"
FILES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
DASHES = (
    "\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32"
    "\ufe58\ufe63\uff0d"
)
# Strokes, phonetic extensions, enclosed letters, compatibility forms, ideographs (two blocks) and hexagrams.
CJK = ("\u31c0-\u31ef", "\u31f0-\u31ff", "\u3200-\u32ff", "\u3300-\u33ff", "\u3400-\u4dbf", "\u4dc0-\u4dff")
IDEOGRAPHS = "\u4e00-\u9fff"
Replacement = tuple[re.Pattern[str], str]


def _steps(*steps: tuple[str, str]) -> tuple[Replacement, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in steps)


BEFORE_MARKUP = _steps(
    (r"<person>", "person"),
    (rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|{URL_TAIL}))", ""),
    (rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|{URL_TAIL}))", ""),
)
AFTER_MARKUP = _steps(
    (r"@[\w\d]+\b", ""),  # a nickname
    *((f"[{block}]+", "") for block in (*CJK, IDEOGRAPHS)),
    (f"[{DASHES}]+", "-"),
    ("[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    ("[\u2018\u2019]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # an IP address
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.(?:{FILES})", ""),
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~\)\(\]\[\}\{\|\\/\\*]{1,}", " "),
    (r"\s+\.\s+", " "),
)
AFTER_REPAIR = _steps(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # article numbers: jc6640, jc6640vc, 6640vc231
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{FILES})(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # noqa: RUF001  (a size: latin x, cyrillic kha or times)
    (r"\b\s+\:\s+", ": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", ""),
    (r"[\'\_,\-\:\-\+]$", ""),
    (r"^\.\S+$", ""),
)
JOINTS = re.compile(r"[\-_]")
PLAIN = re.compile(r"[a-z0-9 ,.!?'-]*")  # text that ftfy and bs4, which are slow to import, do not change
MOST_JOINTS = 3  # a text with more consists of words-joined-by-dashes


def clean_caption(text: str) -> str:
    """Clean a caption twice, like the pipeline, to resolve nested escapes."""
    return _clean(_clean(text))


def _clean(text: str) -> str:
    text = _apply(BEFORE_MARKUP, unquote_plus(text).strip().lower())
    text = _apply(AFTER_MARKUP, _without_markup(text))
    if len(JOINTS.findall(text)) > MOST_JOINTS:
        text = JOINTS.sub(" ", text)
    text = html.unescape(html.unescape(_repaired(text)))
    return _apply(AFTER_REPAIR, text).strip()


def _apply(steps: tuple[Replacement, ...], text: str) -> str:
    for pattern, replacement in steps:
        text = pattern.sub(replacement, text)
    return text


def _repaired(text: str) -> str:
    """The text as it was before it was decoded by the wrong encoding."""
    if PLAIN.fullmatch(text):
        return text
    import ftfy

    return str(ftfy.fix_text(text))


def _without_markup(text: str) -> str:
    if PLAIN.fullmatch(text):
        return text
    from bs4 import BeautifulSoup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for texts that look like file names
        return BeautifulSoup(text, features="html.parser").text
