"""The demonstration's tokenizer: CLIP's byte-pair encoding with only the merges that the captions need.

Any other word is spelt in smaller pieces, so every prompt can be read; the files are those of transformers' CLIPTokenizer.
"""

import json
import pathlib
import re

MERGES = pathlib.Path(__file__).resolve().parents[2] / "Sources/Diffusion/Resources/clip-bpe-merges.txt"
LENGTH = 24


class Tokenizer:
    def __init__(self, corpus):
        """corpus: all captions there can be."""
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        order = printable + [b for b in range(256) if b not in printable]
        self.letters = {
            b: chr(b) if i < len(printable) else chr(256 + i - len(printable)) for i, b in enumerate(order)}
        lines = [line for line in MERGES.read_text().split("\n") if line and not line.startswith("#version")]
        ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        used = set()
        for word in {w for text in corpus for w in self._words(text)}:
            self._encode(word, ranks, used)
        self.merges = sorted(used, key=ranks.get)
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        letters = [self.letters[b] for b in order]
        tokens = letters + [c + "</w>" for c in letters] + ["".join(m) for m in self.merges]
        tokens += ["<|startoftext|>", "<|endoftext|>"]
        self.vocabulary = {token: i for i, token in enumerate(tokens)}

    @staticmethod
    def _words(text):
        return re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())

    def _encode(self, word, ranks, used=None):
        symbols = [self.letters[b] for b in word.encode()]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            pairs = [(ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(symbols, symbols[1:]))]
            rank, i = min(pairs)
            if rank == 1 << 30:
                break
            if used is not None:
                used.add((symbols[i], symbols[i + 1]))
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
        return symbols

    def __call__(self, text):
        symbols = [s for word in self._words(text) for s in self._encode(word, self.ranks)]
        start, end = self.vocabulary["<|startoftext|>"], self.vocabulary["<|endoftext|>"]
        ids = [start, *(self.vocabulary[s] for s in symbols[:LENGTH - 2]), end]
        return ids + [end] * (LENGTH - len(ids))

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.json").write_text(json.dumps(self.vocabulary, ensure_ascii=False))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(m) for m in self.merges)]) + "\n")
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"model_max_length": LENGTH, "pad_token": "<|endoftext|>"}))
