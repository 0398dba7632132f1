"""Makes the folders beside it: tiny random models of each family as people have them, and what diffusers and
transformers compute from them, for Tests/DiffusionTests/Family*.swift and Tests/DreamCacheTests/Family*.swift.

Run by hand: pip install torch diffusers transformers safetensors peft; python Tests/Fixtures/families/generate.py
The versions it ran with are recorded in versions.json. Weights are random; nothing here was trained.
"""

import json
import math
import pathlib
import shutil

import diffusers
import safetensors
import safetensors.torch
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MERGES = HERE.parents[2] / "Sources/Diffusion/Resources/clip-bpe-merges.txt"
VOCABULARY = 1000
PROMPTS = ["a photo of a backpack, on the beach", "A dragon's 3 cafés, painted!", ""]
CHANNELS = (8, 16, 16)

torch.set_grad_enabled(False)


def wave(*shape, rate=0.7, phase=0.3):
    """An input that the tests compute for themselves: sin(rate * i + phase)."""
    count = math.prod(shape)
    return torch.sin(torch.arange(count, dtype=torch.float64) * rate + phase).float().reshape(shape)


def randomise(module, seed, dtype):
    """No tensor keeps its initialisation, and every value is one that `dtype` holds."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            fan_in = parameter[0].numel() if "embedding" not in name else 4
            value = noise / math.sqrt(fan_in)
        else:
            value = (1 if name.endswith("weight") else 0) + 0.1 * noise
        parameter.copy_(value.to(dtype).float())
    return module.eval()


def tokenizer(folder, pad):
    """CLIP's first merges and the vocabulary they imply."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [b for b in range(256) if b not in printable]
    letters = [chr(b) if i < len(printable) else chr(256 + i - len(printable)) for i, b in enumerate(order)]
    lines = [line for line in MERGES.read_text().split("\n") if line and not line.startswith("#version")]
    merges = lines[:VOCABULARY - 514]
    tokens = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == VOCABULARY == len(set(tokens))
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps({
        "bos_token": {"content": "<|startoftext|>"}, "eos_token": {"content": "<|endoftext|>"}, "pad_token": pad}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "pad_token": pad}))
    made = CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)},
                         merges=[tuple(m.split()) for m in merges], pad_token=pad)
    made.model_max_length = 77
    return made


def unet(**options):
    defaults = dict(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=CHANNELS, layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))
    return UNet2DConditionModel(**{**defaults, **options})


def vae(**options):
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **options)


def text(**options):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=64, num_attention_heads=2,
        bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, **options))


# MARK: LDM naming

def ldm_unet(state, layers, has_attention):
    """diffusers' names to LDM's, written down independently of the Swift side; checked against diffusers below."""
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    levels = len(has_attention)
    result = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "time_embedding":
            name = f"time_embed.{0 if parts[1] == 'linear_1' else 2}.{parts[2]}"
        elif parts[0] in ("conv_in", "conv_norm_out", "conv_out"):
            name = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}[parts[0]] + "." + parts[1]
        elif parts[0] == "mid_block":
            place = {"resnets0": 0, "attentions0": 1, "resnets1": 2}[parts[1] + parts[2]]
            rest = parts[3:]
            if parts[1] == "resnets":
                rest = [inner[rest[0]]] + rest[1:]
            name = f"middle_block.{place}." + ".".join(rest)
        else:
            down, level = parts[0] == "down_blocks", int(parts[1])
            kind, index, rest = parts[2], int(parts[3]), parts[4:]
            if down:
                block = 1 + level * (layers + 1) + index + (layers if kind == "downsamplers" else 0)
                stem = f"input_blocks.{block}"
            else:
                block = level * (layers + 1) + (layers if kind == "upsamplers" else index)
                stem = f"output_blocks.{block}"
            if kind == "resnets":
                name = f"{stem}.0.{inner[rest[0]]}.{rest[1]}"
            elif kind == "attentions":
                name = f"{stem}.1." + ".".join(rest)
            elif kind == "downsamplers":
                name = f"{stem}.0.op.{rest[1]}"
            else:
                name = f"{stem}.{2 if has_attention[levels - 1 - level] else 1}.conv.{rest[1]}"
        result["model.diffusion_model." + name] = value
    return result


def ldm_vae(state):
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    result = {}
    for key, value in state.items():
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        for new, old in attention.items():
            name = name.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
        parts = name.split(".")
        if parts[1] in ("down_blocks", "up_blocks"):
            level = int(parts[2]) if parts[1] == "down_blocks" else 3 - int(parts[2])
            kind = "down" if parts[1] == "down_blocks" else "up"
            if parts[3] == "resnets":
                name = ".".join([parts[0], kind, str(level), "block"] + parts[4:])
            else:
                name = ".".join([parts[0], kind, str(level), kind + "sample"] + parts[5:])
        # LDM's attention is of 1x1 convolutions.
        if ".attn_1." in name and name.endswith("weight") and "norm" not in name:
            value = value[:, :, None, None]
        result["first_stage_model." + name] = value
    return result


def open_clip(state, layers):
    """transformers' names to OpenCLIP's, with one block more, which is never run."""
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}
    result = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.eye(16), "logit_scale": torch.tensor(4.6),
    }
    for layer in range(layers + 1):
        source = f"encoder.layers.{min(layer, layers - 1)}."
        target = f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            for name, other in inner.items():
                result[f"{target}{other}.{kind}"] = state[f"{source}{name}.{kind}"].clone()
            result[f"{target}attn.in_proj_{kind}"] = torch.cat(
                [state[f"{source}self_attn.{c}_proj.{kind}"] for c in "qkv"])
    return {"cond_stage_model.model." + name: value for name, value in result.items()}


def check_ldm(single, model, vae_model, layers):
    """diffusers' own conversion gives back what we began with."""
    back = single_file_utils.convert_ldm_unet_checkpoint(
        dict(single), {**model.config, "layers_per_block": layers, "use_linear_projection": True,
                       "class_embed_type": None, "addition_embed_type": None})
    state = model.state_dict()
    assert set(back) == set(state), sorted(set(back) ^ set(state))[:5]
    assert all(torch.equal(back[k].reshape(-1), state[k].reshape(-1)) for k in state)
    back = single_file_utils.convert_ldm_vae_checkpoint(dict(single), vae_model.config)
    state = vae_model.state_dict()
    assert set(back) == set(state), sorted(set(back) ^ set(state))[:5]
    assert all(torch.equal(back[k].reshape(-1), state[k].reshape(-1)) for k in state)


# MARK: Files

def save(folder, parts, dtype, **options):
    """save_pretrained of every part in `dtype`, and the index of the pipeline."""
    for name, part in parts.items():
        if name in ("scheduler",):
            part.save_pretrained(folder / name)
            continue
        part.to(dtype)
        extra = {"safe_serialization": options.get("safe", True)}
        if options.get("variant"):
            extra["variant"] = options["variant"]
        if options.get("shard"):
            extra["max_shard_size"] = options["shard"]
        if name == "text_encoder":
            extra.pop("safe_serialization")
            if not options.get("safe", True):
                (folder / name).mkdir(parents=True)
                part.config.save_pretrained(folder / name)
                torch.save({"text_model." + k: v for k, v in part.state_dict().items()},
                           folder / name / "pytorch_model.bin")
                part.float()
                continue
        part.save_pretrained(folder / name, **extra)
        part.float()
    (folder / "model_index.json").write_text(json.dumps({
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
        "scheduler": ["diffusers", type(parts["scheduler"]).__name__], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }, indent=2))


def old_attention_names(file):
    """The autoencoder's attention as diffusers named it before 0.15."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = safetensors.torch.load_file(file)
    for new, old in names.items():
        for key in [k for k in state if f"attentions.0.{new}." in k]:
            state[key.replace(new, old)] = state.pop(key)
    safetensors.torch.save_file(state, file)


def expected(name, pipe, lora=None):
    result = {}
    ids = pipe.tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    result["text.ids"] = ids.int()
    output = pipe.text_encoder(ids, output_hidden_states=True)
    result["text.states"] = output.last_hidden_state
    norm = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm
    result["text.clip_skip_1"] = norm(output.hidden_states[-2])
    context = output.last_hidden_state[:1]
    for height, width in [(16, 16), (13, 10), (7, 9)]:
        sample = wave(1, 4, height, width)
        result[f"unet.{height}x{width}"] = pipe.unet(sample, 481, context).sample
    moments = pipe.vae.encode(wave(1, 3, 64, 64, rate=0.11)).latent_dist
    result["vae.mean"], result["vae.logvar"] = moments.mean, moments.logvar
    result["vae.decoded"] = pipe.vae.decode(wave(1, 4, 8, 8)).sample
    run = dict(prompt=PROMPTS[0], negative_prompt=PROMPTS[1], guidance_scale=5.0, num_inference_steps=8,
               output_type="latent")
    result["run.latent"] = pipe(**run, height=64, width=64, generator=torch.Generator().manual_seed(42)).images
    result["run.wide"] = pipe(**run, height=56, width=104, generator=torch.Generator().manual_seed(42)).images
    image = wave(1, 3, 64, 64, rate=0.11)
    again = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    # Levels of eight bits, as a picture in a file has them.
    levels = torch.round((image / 2 + 0.5) * 255)
    result["img2img.levels"] = levels[0].to(torch.uint8)
    result["img2img.latent"] = again(
        **run, image=levels / 127.5 - 1, strength=0.6, generator=torch.Generator().manual_seed(43)).images
    safetensors.torch.save_file({k: v.contiguous() for k, v in result.items()}, HERE / name / "expected.safetensors")


def pipeline(parts):
    pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def sd1():
    """SD 1.5: heads by number, projections by convolution, quick GELU; variant fp16, and one .ckpt in LDM naming."""
    folder = HERE / "sd1"
    dtype = torch.float16
    model = randomise(unet(attention_head_dim=2, layers_per_block=2, block_out_channels=(8, 8, 16)), 1, dtype)
    encoder = randomise(text(num_hidden_layers=3, hidden_act="quick_gelu"), 2, dtype)
    decoder = randomise(vae(), 3, dtype)
    scheduler = diffusers.PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False)
    parts = dict(unet=model, vae=decoder, text_encoder=encoder, scheduler=scheduler)
    save(folder / "folder", parts, dtype, variant="fp16")
    old_attention_names(folder / "folder/vae/diffusion_pytorch_model.fp16.safetensors")
    parts["tokenizer"] = tokenizer(folder / "folder/tokenizer", "<|endoftext|>")
    single = ldm_unet(model.state_dict(), 2, (True, True, False)) | ldm_vae(decoder.state_dict())
    single |= {f"cond_stage_model.transformer.text_model.{k}": v for k, v in encoder.state_dict().items()}
    check_ldm(single, model, decoder, 2)
    single = {k: v.to(dtype) for k, v in single.items()}
    single["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save({"global_step": 470000, "state_dict": single}, folder / "single.ckpt")
    pipe = pipeline(parts)
    expected("sd1", pipe)
    loras(folder, pipe)


def sd2():
    """SD 2.1-base: heads by size, linear projections, GELU; sharded bf16, and one safetensors with OpenCLIP's names."""
    folder = HERE / "sd2"
    dtype = torch.bfloat16
    model = randomise(unet(attention_head_dim=[1, 2, 2], use_linear_projection=True), 4, dtype)
    encoder = randomise(text(num_hidden_layers=2, hidden_act="gelu"), 5, dtype)
    decoder = randomise(vae(), 6, dtype)
    scheduler = diffusers.DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False)
    parts = dict(unet=model, vae=decoder, text_encoder=encoder, scheduler=scheduler)
    save(folder / "folder", parts, dtype, shard="60KB")
    parts["tokenizer"] = tokenizer(folder / "folder/tokenizer", "!")
    single = ldm_unet(model.state_dict(), 1, (True, True, False)) | ldm_vae(decoder.state_dict())
    check_ldm(single, model, decoder, 1)
    single |= open_clip(encoder.state_dict(), 2)
    safetensors.torch.save_file({k: v.to(dtype).contiguous() for k, v in single.items()}, folder / "single.safetensors")
    pipe = pipeline(parts)
    expected("sd2", pipe)
    loras(folder, pipe)


def sd2v():
    """SD 2.1-v: v-prediction at another size, weights in .bin."""
    folder = HERE / "sd2v"
    dtype = torch.float16
    model = randomise(
        unet(attention_head_dim=[1, 2], use_linear_projection=True, sample_size=24, block_out_channels=(8, 16),
             upcast_attention=True, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")), 7, dtype)
    encoder = randomise(text(num_hidden_layers=2, hidden_act="gelu"), 8, dtype)
    decoder = randomise(vae(scaling_factor=0.2), 9, dtype)
    scheduler = diffusers.DPMSolverMultistepScheduler(**NOISE, prediction_type="v_prediction")
    parts = dict(unet=model, vae=decoder, text_encoder=encoder, scheduler=scheduler)
    save(folder / "folder", parts, dtype, safe=False)
    parts["tokenizer"] = tokenizer(folder / "folder/tokenizer", "!")
    expected("sd2v", pipeline(parts))


def loras(folder, pipe):
    """The same updates in kohya's and in PEFT's naming, and what diffusers makes of each."""
    generator = torch.Generator().manual_seed(11)
    rank, alpha = 2, 3.0
    kohya, peft = {}, {}
    targets = [("unet", n, m) for n, m in pipe.unet.named_modules()
               if n.endswith(("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.0.proj", "attentions.0.proj_in"))]
    targets += [("text_encoder", n, m) for n, m in pipe.text_encoder.named_modules()
                if n.endswith(("self_attn.q_proj", "self_attn.v_proj", "out_proj", "mlp.fc1"))]
    changes = []
    for network, name, module in targets:
        inputs = module.weight.shape[1]
        down = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        up = torch.randn(module.weight.shape[0], rank, generator=generator) * 0.5
        tail = (1, 1) if module.weight.dim() == 4 else ()
        long = name if network == "unet" else "text_model." + name.removeprefix("text_model.")
        stem = ("lora_unet_" if network == "unet" else "lora_te_") + long.replace(".", "_")
        kohya |= {f"{stem}.lora_down.weight": down.reshape(*down.shape, *tail),
                  f"{stem}.lora_up.weight": up.reshape(*up.shape, *tail), f"{stem}.alpha": torch.tensor(alpha)}
        # PEFT has no alpha a module: it is multiplied in.
        stem = f"{network}.{long}"
        peft |= {f"{stem}.lora_A.weight": down.reshape(*down.shape, *tail),
                 f"{stem}.lora_B.weight": (up * alpha / rank).reshape(*up.shape, *tail)}
        changes.append((module, (up @ down * alpha / rank).reshape(module.weight.shape)))
    safetensors.torch.save_file(kohya, folder / "kohya.safetensors")
    safetensors.torch.save_file(peft, folder / "peft.safetensors")
    weight = 0.8
    for module, change in changes:
        module.weight += weight * change
    ids = pipe.tokenizer(PROMPTS[:1], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    context = pipe.text_encoder(ids).last_hidden_state
    result = {"text": context, "unet": pipe.unet(wave(1, 4, 16, 16), 481, context).sample}
    for module, change in changes:
        module.weight -= weight * change
    check_lora(folder, pipe, ids, result, weight)
    safetensors.torch.save_file(result, folder / "lora-expected.safetensors")


def check_lora(folder, pipe, ids, result, weight):
    """diffusers, reading the files itself, agrees; its text encoder's names change with transformers, so the U-Net's
    share is what is compared."""
    for name in ("kohya", "peft"):
        pipe.load_lora_weights(str(folder), weight_name=f"{name}.safetensors", adapter_name=name)
        pipe.set_adapters([name], adapter_weights=[weight])
        found = pipe.unet(wave(1, 4, 16, 16), 481, result["text"]).sample
        error = (found - result["unet"]).norm() / result["unet"].norm()
        print(folder.name, name, "against diffusers:", float(error))
        assert error < 1e-5
        pipe.unload_lora_weights()


for name in ("sd1", "sd2", "sd2v"):
    shutil.rmtree(HERE / name, ignore_errors=True)
sd1()
sd2()
sd2v()
for file in [*HERE.rglob(".gitattributes"), *HERE.rglob("README.md")]:
    file.unlink()
(HERE / "versions.json").write_text(json.dumps(
    {m.__name__: m.__version__ for m in (torch, diffusers, transformers, safetensors)}, indent=1) + "\n")
