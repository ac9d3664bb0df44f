"""Records tests/golden/t2v/captions.json: odd prompts as diffusers' LattePipeline cleans them, and their ids.

    .venv-torch/bin/python tests/peers/record_captions.py

Needs what record_goldens.py needs, and beautifulsoup4. Prompts are drawn from fragments by a seed.
"""

import json
import random
import warnings
from pathlib import Path

from diffusers import LattePipeline
from transformers import T5Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "t2v"
COUNT = 500
# fmt: off
FRAGMENTS = (
    "a cat on a sofa", "Sunset over the SEA", "an astronaut riding a horse", "<person>", "<b>bold</b>",
    "<a href='http://x.org/y'>link</a>", "<br/>", "<script>alert(1)</script>", "<!-- note -->", "&amp;",
    "&amp;amp;", "&quot;hi&quot;", "&lt;b&gt;", "&#39;", "&nbsp;", "&copy 2024",
    "https://example.com/a?b=c&d=1", "http:///x", "www.example.ru/path-to/x", "example.com",
    "foo.bar.net/", "user@mail.com", "@nick_name", "me@home.org", "192.168.0.1", "10.0.0.256 ", "12:30 ",
    "3:45  ", "\\n", "\n", "\t", "#12", "#1234", "#12345", "123456", "1234567890", "photo.jpg",
    "IMG_0001.PNG", "clip.mp4", "report.pdf page 12", "\"\"\"SALE\"\"\"", "''quoted''", "'single'",
    "\"double\"", "...", "....", "a . b", "***wow***", "(brackets)", "[list] {set} |pipe|", "50% off",
    "100%25", "%20space%20", "a+b", "c%2Bd", "%E2%98%83", "%zz", "this-is-my-cute-cat",
    "this_is_my_cute_cat", "x-y", "jc6640", "jc6640vc", "6640vc231", "j2d1a2a3b", "ab123", "abcd1234",
    "free shipping", "worldwide free shipping", "free download free", "download", "click for more",
    "click on it", "png images", "jpeg image", "page 3", "1920x1080", "4\u04454", "3\u00d75", "2.5x3.5",
    "word : word", "a,b", "a.b", "a/b", "1,000.5", "\u65e5\u672c\u306e\u685c", "\u685c",
    "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a", "\u3231", "\u337f", "\u4dc0", "\u31f0", "\u31c0",
    "\u0401-\u043c\u043e\u0451", "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
    "\u00ab\u0451\u043b\u043e\u0447\u043a\u0438\u00bb", "\u201csmart\u201d", "\u2018smart\u2019", "`tick`",
    "\u00b4", "\u00a8", "\u2014", "\u2013", "\u2015", "\u301c", "\u30a0", "\ufe58", "-",
    "\u2010\u2011\u2012", "\U0001f431", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u00e9",
    "\u00c9", "\ufb01", "\u00bd cup", "\u00bfqu\u00e9?", "\u00a1hola!", "\u00a7 5", "na\u00efve caf\u00e9",
    "sch\u00c3\u00b6n", "\u00e2\u20ac\u0153broken\u00e2\u20ac\u009d", "\u00e2\u0153\u201d",
    "\u00c3\u00a9t\u00c3\u00a9", "\u200b", "\ufeff", "\u00a0", "\u0007", "\u001b[31m", "~", "~~", "*",
    "\\", "\\\\", "//", "_", "__", "--", "---", "+", "+1", ":", "; x", ", x", "'x", "x'", "-x-", ".hidden",
    ".x y", "<", "<<", ">", "< b", "a < b", "<unclosed", "</div>", "&", "&&", "&unknown;", "&#x1F600;",
    "&#0;", "R2D2", "C3PO", "mp4", "webp", "5d mark", "4k", "8K HDR", "\u2116 5", "\u216b", "\u2460",
    "\u01c5", "\u00df", "\u0130stanbul", "\u017f",
)
ODD = (
    "", " ", "\n", "a" * 300, "cat " * 200, "https://", "www:", "www:/x", "http:a", "@", "#", "'", "\"",
    "''", "\"\"", "'a'", "\"a\" and \"b\"", ".", "..", ".a", ":", "a : b", "A Very, Very.Long/List",
    "1.2.3.4.5", "<p>one</p><p>two</p>", "&lt;p&gt;one&lt;/p&gt;", "%3Cb%3Ebold%3C%2Fb%3E", "100% sure",
    "50%off", "\u2028", "\u0000", "a\u0000b",
)
# fmt: on
SEPARATORS = (" ", " ", " ", "", ", ", " - ", "  ", " . ", "_", "-")
LENGTHS = (1, 1, 2, 3, 4, 5, 8, 14)


def main() -> None:
    draw = random.Random(13)
    prompts = dict.fromkeys((*ODD, *FRAGMENTS))
    while len(prompts) < COUNT:
        length, separator = draw.choice(LENGTHS), draw.choice(SEPARATORS)
        prompts.setdefault(separator.join(draw.choice(FRAGMENTS) for _ in range(length)))
    tokenizer = T5Tokenizer.from_pretrained(GOLDEN / "pipeline" / "tokenizer")
    pipeline = LattePipeline.__new__(LattePipeline)  # cleaning needs none of its parts
    rows = []
    for prompt in list(prompts)[:COUNT]:
        (cleaned,) = pipeline._text_preprocessing(prompt, clean_caption=True)
        ids = tokenizer(cleaned, max_length=120, truncation=True).input_ids
        rows.append(json.dumps({"prompt": prompt, "cleaned": cleaned, "ids": ids}))
    (GOLDEN / "captions.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
