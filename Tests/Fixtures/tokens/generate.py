"""Makes libraries.json and tiny/: what open_clip and transformers make of difficult prompts.

Run by hand: pip install open_clip_torch transformers; python Tests/Fixtures/tokens/generate.py
The versions it ran with are recorded in the fixture. (tokens.json is not made here.)
"""

import json
import pathlib
import sys

import ftfy
import open_clip
import transformers
from open_clip.tokenizer import SimpleTokenizer

HERE = pathlib.Path(__file__).parent

TEXTS = [
    "", " ", "\n", "a", "!", "'", "''s", "'s", "'S 'T 'RE 'VE 'M 'LL 'D 'x", "rock'n'roll", "it\u2019s the dogs\u2019 'll",
    "!!'s", "don'\u017f \u017f 'L\u212aL", "3.5e-10\u00b2\u00bd\u2168\u0663", "a\u0301 e\u0301 \u1e69", "\u0130\u0130 I\u0307 \u1e9e",
    "\u039f\u0394\u039f\u03a3 \u03a3 \u03a3\u039f\u03a6\u039f\u03a3 \u0391\u03a3. \u0391\u03a3\u0301 \u0391\u03a3b a.\u03a3",
    "x\u200by\u200cz\u200d\u2060\ufeff", "\u202eright\u202c to left", "\u0000nul\u0001\u001b[31mred\u001b[0m \u001b[1;2", "tab\tvt\u000bff\u000ccr\rnel\u0085ls\u2028ps\u2029.",
    "\u00a0nbsp\u2003em\u3000ideographic", "\uff21\uff22\uff23 \uff11\uff12 \uff76\uff9e\uff80\uff76\uff85 \uffe5 \uffe1", "\u0133sland \u0132 \u01c6 \u01c4 \u01c8 \u01cb \u01f2 \u0149 \ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06",
    "\u2018a\u2019 \u201ab\u201b \u201cc\u201d \u201ed\u201f \u02bc \u2032 \u00ab\u00bb", "\u0093quoted\u0094 caf\u0080", "&amp; &lt;b&gt; &quot;q&quot; &#39;s &#x27;s", "<b>&amp;</b>\n&amp;amp;", "&ldquo;a&rdquo;\n<b> &ldquo;c&rdquo;\n&ldquo;d&rdquo;",
    "&eacute; &EACUTE; &Eacute; &NTILDE; &SZLIG; &AMPERE; &FRAC12;", "&notit; &notin; &noti &copy2024 &copy; &COPY &hellip;", "&#128; &#150; &#0; &#13; &#xD800; &#x110000; &#1114112; &#99999999999999999999; &#11; &#xfffe; &#xfdd0;",
    "&;&#;&#x;&x &#12ab; &&amp;& a&b &ampamp; &amp;amp;amp;lt;", "&#8220;curly&#8221; &ldquo;named&rdquo; &#xFB01;", "&Tab;&NewLine;&nbsp;x&ThinSpace;y&ZeroWidthSpace;z", "&NotEqualTilde; &bne; &fjlig; &ThickSpace;.",
    "<start_of_text>a<end_of_text>", "<|startoftext|>a<|endoftext|>b", "!!<|endoftext|>!!", "<START_OF_TEXT> <end_of_text", "a<end_of_text>b!<end_of_text>",
    "\ud55c\uad6d\uc5b4 \u4e2d\u6587 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd \u2764\ufe0f", "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8 \U00010400 \u24b6 \u2460",
    "\u1ff3 \u03d4 \u212b \u2126 \uf900 \ufb1d \u0344", "_under_ __init__ $#@%^&*()", "x" * 500, "ab" * 90, "\U0001f9f8" * 40, "a " * 100, "word " * 74 + "end", "word " * 75 + "end", "word " * 76 + "end",
    "http://example.org/?a=1&b=2&copy=3", "C:\\dir\\file.png", "50mm f/1.8, ISO-100, 8k, (masterpiece:1.2), ((best)) [worst]", "\ufffd\ufffc\ufff9", "\u206a\u206f\u061c", "\U000e0041\U0010ffff\ue000",
]


def tiny_folder():
    """A tokenizer in diffusers' layout with ids out of order and a padding token of its own."""
    base = SimpleTokenizer()
    symbols = list(base.byte_encoder.values())
    merges = ["h e", "l l", "he ll", "hell o</w>", "w o", "wo r", "l d</w>", "wor ld</w>", "\u00c3 \u00a9"]
    tokens = ["!"] + symbols[1:] + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges]
    tokens = tokens[::-1] + ["<|startoftext|>", "<|endoftext|>", "<pad>"]
    folder = HERE / "tiny"
    folder.mkdir(exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<pad>", "lstrip": False}}))
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(m.split()) for m in merges], pad_token="<pad>")
    texts = ["Hello WORLD", "he'll say h\u00e9llo &amp; <|endoftext|>", "caf\u0065\u0301 \u65e5!"]
    return [
        {"text": t, "ids": tokenizer(t, padding="max_length", max_length=77, truncation=True).input_ids} for t in texts]


def main():
    base = SimpleTokenizer()
    vocabulary = dict(base.encoder)
    vocabulary["<|startoftext|>"] = vocabulary.pop("<start_of_text>")
    vocabulary["<|endoftext|>"] = vocabulary.pop("<end_of_text>")
    merges = sorted(base.bpe_ranks, key=base.bpe_ranks.get)
    fast = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)

    def case(text):
        ids = base([text])[0].tolist()
        while ids[-1] == 0:
            ids.pop()
        return {
            "text": text,
            "open_clip": ids,
            "transformers": fast(text, max_length=77, truncation=True).input_ids,
        }

    fixture = {
        "made_by": "Tests/Fixtures/tokens/generate.py",
        "versions": {
            "open_clip": open_clip.__version__, "ftfy": ftfy.__version__, "transformers": transformers.__version__,
            "python": sys.version.split()[0],
        },
        "cases": [case(t) for t in TEXTS],
        "tiny": tiny_folder(),
    }
    path = HERE / "libraries.json"
    path.write_text(json.dumps(fixture, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n")


if __name__ == "__main__":
    main()
