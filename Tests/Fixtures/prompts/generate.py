"""Makes expected.safetensors: what compel makes of long and weighted prompts on Tests/Fixtures/families/sd1, for
Tests/DiffusionTests/PromptTests.swift.

Run by hand: pip install torch diffusers transformers safetensors compel; python Tests/Fixtures/prompts/generate.py
The versions it ran with are recorded in versions.json.
"""

import importlib.metadata
import json
import pathlib

import safetensors.torch
import torch
from compel import EmbeddingsProvider
from compel.embeddings_provider import SplitLongTextMode
from transformers import CLIPTextModel, CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE.parent / "families/sd1/folder"

LONG = "a photo of a dog, " + ", ".join(f"detail{i}" for i in range(30)) + ", wearing a red hat on the moon"
# Pieces and weights, as the grammar reads "a (red:1.3) hat, [old], (on the (moon))".
WEIGHTED = [("a ", 1.0), ("red", 1.3), (" hat, ", 1.0), ("old", 1 / 1.1), (", ", 1.0), ("on the ", 1.1), ("moon", 1.1 * 1.1)]
LONG_WEIGHTED = [(LONG, 1.0), (" far away", 1.4)]

torch.set_grad_enabled(False)
tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
text = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", variant="fp16", torch_dtype=torch.float32).eval()


def provider(truncate):
    return EmbeddingsProvider(
        tokenizer, text, truncate=truncate, split_long_text_mode=SplitLongTextMode.BRUTAL)


def states(fragments, truncate):
    """compel's embedding with each token's weight, without its further blending of weights below 1."""
    made = provider(truncate)
    ids, weights, mask = made.get_token_ids_and_expand_weights(
        [f for f, _ in fragments], [w for _, w in fragments], device="cpu")
    return made.build_weighted_embedding_tensor(ids, weights, mask, device="cpu")[0], ids.int()


result = {}
for name, fragments, truncate in [
    ("long.chunks", [(LONG, 1.0)], False), ("long.truncated", [(LONG, 1.0)], True), ("weighted", WEIGHTED, True),
    ("long.weighted", LONG_WEIGHTED, False),
]:
    result[name], result[name + ".ids"] = states(fragments, truncate)
# The whole of compel agrees where no weight is below 1.
whole = provider(False).get_embeddings_for_weighted_prompt_fragments(
    [[f for f, _ in LONG_WEIGHTED]], [[w for _, w in LONG_WEIGHTED]])
assert torch.allclose(whole[0], result["long.weighted"])
safetensors.torch.save_file({k: v.contiguous() for k, v in result.items()}, HERE / "expected.safetensors")
names = ("torch", "transformers", "compel", "safetensors")
(HERE / "versions.json").write_text(json.dumps({n: importlib.metadata.version(n) for n in names}, indent=1) + "\n")
