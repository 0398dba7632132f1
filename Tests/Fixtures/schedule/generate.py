"""Makes schedules.json: what diffusers' schedulers do, for Tests/DiffusionTests/Schedule*.swift.

Run by hand: pip install numpy torch diffusers scipy torchsde; python Tests/Fixtures/schedule/generate.py
The versions it ran with are recorded in the fixture.
"""

import json
import pathlib
import sys

import diffusers
import numpy
import torch

COUNT = 24
BASE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
ZERO_SNR = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")

# name: (class, options beside BASE, eta)
CASES = {
    "ddim": ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=False), 0.0),
    "ddim-eta-1": ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=False), 1.0),
    "ddim-eta-half-alpha-one": ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=True), 0.5),
    "ddim-clip": ("DDIMScheduler", dict(clip_sample_range=1.5), 0.0),
    "ddim-linspace": ("DDIMScheduler", dict(clip_sample=False, timestep_spacing="linspace"), 0.0),
    "ddim-trailing": ("DDIMScheduler", dict(clip_sample=False, timestep_spacing="trailing"), 0.0),
    "ddim-zero-snr": ("DDIMScheduler", dict(clip_sample=False, **ZERO_SNR), 0.0),
    "ddim-linear": ("DDIMScheduler", dict(clip_sample=False, beta_schedule="linear", beta_start=0.0001, beta_end=0.02), 0.0),
    "ddim-cosine": ("DDIMScheduler", dict(clip_sample=False, beta_schedule="squaredcos_cap_v2"), 0.0),
    "pndm": ("PNDMScheduler", dict(skip_prk_steps=True, set_alpha_to_one=False), 0.0),
    "pndm-alpha-one": ("PNDMScheduler", dict(skip_prk_steps=True, set_alpha_to_one=True), 0.0),
    "pndm-linspace": ("PNDMScheduler", dict(skip_prk_steps=True, timestep_spacing="linspace"), 0.0),
    "pndm-trailing": ("PNDMScheduler", dict(skip_prk_steps=True, timestep_spacing="trailing"), 0.0),
    "euler": ("EulerDiscreteScheduler", {}, 0.0),
    "euler-leading": ("EulerDiscreteScheduler", dict(timestep_spacing="leading"), 0.0),
    "euler-trailing-sigma-min": (
        "EulerDiscreteScheduler", dict(timestep_spacing="trailing", final_sigmas_type="sigma_min"), 0.0),
    "euler-karras": ("EulerDiscreteScheduler", dict(use_karras_sigmas=True), 0.0),
    "euler-karras-bounds": (
        "EulerDiscreteScheduler", dict(use_karras_sigmas=True, sigma_min=0.1, sigma_max=10.0), 0.0),
    "euler-exponential": ("EulerDiscreteScheduler", dict(use_exponential_sigmas=True), 0.0),
    "euler-zero-snr": ("EulerDiscreteScheduler", ZERO_SNR, 0.0),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}, 0.0),
    "euler-ancestral-leading": ("EulerAncestralDiscreteScheduler", dict(timestep_spacing="leading"), 0.0),
    "heun": ("HeunDiscreteScheduler", {}, 0.0),
    "heun-karras": ("HeunDiscreteScheduler", dict(use_karras_sigmas=True), 0.0),
    "heun-clip": ("HeunDiscreteScheduler", dict(clip_sample=True, clip_sample_range=2.0), 0.0),
    "dpm": ("DPMSolverMultistepScheduler", {}, 0.0),
    "dpm-leading": ("DPMSolverMultistepScheduler", dict(timestep_spacing="leading"), 0.0),
    "dpm-trailing": ("DPMSolverMultistepScheduler", dict(timestep_spacing="trailing"), 0.0),
    "dpm-karras": ("DPMSolverMultistepScheduler", dict(use_karras_sigmas=True), 0.0),
    "dpm-exponential": ("DPMSolverMultistepScheduler", dict(use_exponential_sigmas=True), 0.0),
    "dpm-order-1": ("DPMSolverMultistepScheduler", dict(solver_order=1), 0.0),
    "dpm-order-3": ("DPMSolverMultistepScheduler", dict(solver_order=3), 0.0),
    "dpm-order-3-full": (
        "DPMSolverMultistepScheduler",
        dict(solver_order=3, lower_order_final=False, final_sigmas_type="sigma_min"), 0.0),
    "dpm-heun": ("DPMSolverMultistepScheduler", dict(solver_type="heun"), 0.0),
    "dpm-euler-at-final": (
        "DPMSolverMultistepScheduler",
        dict(euler_at_final=True, lower_order_final=False, final_sigmas_type="sigma_min"), 0.0),
    "dpm-cosine-clipped": (
        "DPMSolverMultistepScheduler", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), 0.0),
    "dpm-noise": ("DPMSolverMultistepScheduler", dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"), 0.0),
    "dpm-noise-3-heun": (
        "DPMSolverMultistepScheduler",
        dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min", solver_order=3, solver_type="heun"), 0.0),
    "dpm-sde": ("DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++"), 0.0),
    "dpm-sde-karras": (
        "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True), 0.0),
    "dpm-sde-3": ("DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++", solver_order=3), 0.0),
    "dpm-sde-heun": (
        "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++", solver_type="heun"), 0.0),
    "dpm-sde-noise": (
        "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"), 0.0),
    "dpm-zero-snr": ("DPMSolverMultistepScheduler", ZERO_SNR, 0.0),
    "unipc": ("UniPCMultistepScheduler", {}, 0.0),
    "unipc-leading": ("UniPCMultistepScheduler", dict(timestep_spacing="leading"), 0.0),
    "unipc-bh1": ("UniPCMultistepScheduler", dict(solver_type="bh1", final_sigmas_type="sigma_min"), 0.0),
    "unipc-order-1": ("UniPCMultistepScheduler", dict(solver_order=1), 0.0),
    "unipc-order-3": ("UniPCMultistepScheduler", dict(solver_order=3), 0.0),
    "unipc-karras": ("UniPCMultistepScheduler", dict(use_karras_sigmas=True), 0.0),
    "unipc-karras-sigma-min": (
        "UniPCMultistepScheduler",
        dict(use_karras_sigmas=True, final_sigmas_type="sigma_min", lower_order_final=False), 0.0),
    "unipc-noise": ("UniPCMultistepScheduler", dict(predict_x0=False, final_sigmas_type="sigma_min"), 0.0),
    "unipc-disabled-corrector": ("UniPCMultistepScheduler", dict(disable_corrector=[0, 1, 5]), 0.0),
    "unipc-zero-snr": ("UniPCMultistepScheduler", ZERO_SNR, 0.0),
    "lcm": ("LCMScheduler", {}, 0.0),
    "lcm-clip": ("LCMScheduler", dict(clip_sample=True, original_inference_steps=100), 0.0),
    "lms": ("LMSDiscreteScheduler", {}, 0.0),
    "lms-leading": ("LMSDiscreteScheduler", dict(timestep_spacing="leading"), 0.0),
    "lms-karras": ("LMSDiscreteScheduler", dict(use_karras_sigmas=True), 0.0),
    "lms-exponential": ("LMSDiscreteScheduler", dict(use_exponential_sigmas=True), 0.0),
    "ddpm": ("DDPMScheduler", dict(clip_sample=False), 0.0),
    "ddpm-clip-large": ("DDPMScheduler", dict(clip_sample_range=2.0, variance_type="fixed_large"), 0.0),
    "ddpm-trailing": ("DDPMScheduler", dict(clip_sample=False, timestep_spacing="trailing"), 0.0),
    "ddpm-zero-snr": ("DDPMScheduler", dict(clip_sample=False, **ZERO_SNR), 0.0),
    "tcd": ("TCDScheduler", {}, 0.0),
    "tcd-gamma": ("TCDScheduler", {}, 0.3),
    "tcd-gamma-1": ("TCDScheduler", dict(original_inference_steps=100), 1.0),
    "deis": ("DEISMultistepScheduler", {}, 0.0),
    "deis-leading": ("DEISMultistepScheduler", dict(timestep_spacing="leading"), 0.0),
    "deis-order-1": ("DEISMultistepScheduler", dict(solver_order=1), 0.0),
    "deis-order-3": ("DEISMultistepScheduler", dict(solver_order=3), 0.0),
    "deis-order-3-full": ("DEISMultistepScheduler", dict(solver_order=3, lower_order_final=False), 0.0),
    "deis-karras": ("DEISMultistepScheduler", dict(use_karras_sigmas=True), 0.0),
    "deis-exponential": ("DEISMultistepScheduler", dict(use_exponential_sigmas=True), 0.0),
    "sde": ("DPMSolverSDEScheduler", {}, 0.0),
    "sde-leading": ("DPMSolverSDEScheduler", dict(timestep_spacing="leading"), 0.0),
    "sde-karras": ("DPMSolverSDEScheduler", dict(use_karras_sigmas=True), 0.0),
}


def model(sample, timestep):
    """The toy denoiser, computed in double precision on both sides."""
    index = numpy.arange(COUNT)
    return (0.3 * sample.numpy().astype(numpy.float64) + 0.1 * numpy.sin(float(timestep) / 1000 + index)).astype(
        numpy.float32)


class Noise:
    """Takes the place of the random generator: the values of the next draw."""

    def __init__(self):
        self.draws = 0

    def __call__(self, shape, **_):
        self.draws += 1
        values = numpy.cos(1.7 * numpy.arange(COUNT) + 0.9 * self.draws)
        return torch.from_numpy(values.astype(numpy.float32)).reshape(shape)


class BrownianPath:
    """Takes the place of the Brownian tree: both halves of a step from one path, each from one draw."""

    def __init__(self, noise, shape):
        self.noise, self.shape, self.first = noise, shape, None

    def __call__(self, sigma, sigma_next):
        drawn = self.noise(self.shape)
        if self.first is None:
            self.first = (sigma, sigma_next, drawn)
            return drawn
        start, middle, earlier = self.first
        self.first = None
        share = ((start - middle) / (start - sigma_next)) ** 0.5
        return share * earlier + (1 - share**2) ** 0.5 * drawn


def build(kind, options, prediction):
    values = dict(BASE)
    values.update(options)
    if prediction is not None and "rescale_betas_zero_snr" not in options:
        values["prediction_type"] = prediction
    return values, getattr(diffusers, kind)(**values)


def replace_noise(kind, noise):
    sys.modules[getattr(diffusers, kind).__module__].randn_tensor = noise


def run(kind, options, eta, prediction, steps, skipped=0):
    values, scheduler = build(kind, options, prediction)
    noise = Noise()
    replace_noise(kind, noise)
    scheduler.set_timesteps(steps)
    start = numpy.sin(0.37 * numpy.arange(COUNT) + 1).astype(numpy.float32)
    timesteps = scheduler.timesteps[skipped * scheduler.order :]
    shape = (1, COUNT, 1, 1)
    if skipped:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skipped * scheduler.order)
        image = numpy.cos(0.21 * numpy.arange(COUNT)).astype(numpy.float32)
        sample = scheduler.add_noise(
            torch.from_numpy(image).reshape(shape), torch.from_numpy(start).reshape(shape), timesteps[:1])
    else:
        sample = torch.from_numpy(start).reshape(shape) * scheduler.init_noise_sigma
    trajectory = [sample]
    extra = {"eta": eta} if kind in ("DDIMScheduler", "TCDScheduler") else {}
    if kind == "DPMSolverSDEScheduler":
        scheduler.noise_sampler = BrownianPath(noise, shape)
    for timestep in timesteps:
        scaled = scheduler.scale_model_input(sample, timestep).to(torch.float32)
        output = torch.from_numpy(model(scaled.reshape(-1), timestep)).reshape(shape)
        sample = scheduler.step(output, timestep, sample.to(torch.float32), **extra).prev_sample
        trajectory.append(sample)
    assert all(torch.isfinite(t).all() for t in trajectory), (kind, options, prediction)
    result = {
        "prediction_type": values.get("prediction_type", "epsilon"),
        "draws": noise.draws,
        # Some of the way and all of the end.
        "trajectory": [[round_(v) for v in t.reshape(-1)[:3]] for t in trajectory],
        "final": [round_(v) for v in trajectory[-1].reshape(-1)],
    }
    if skipped:
        result["skipped"] = skipped
    return result


def round_(value):
    return float(f"{float(value):.8g}")


def main():
    cases = []
    for name, (kind, options, eta) in CASES.items():
        values, scheduler = build(kind, options, None)
        tables = []
        # In trailing spacing 48 steps fall on halves, which numpy rounds in its own way.
        for steps in (5, 20, 50, 48) if options.get("timestep_spacing") == "trailing" else (5, 20, 50):
            if kind in ("LCMScheduler", "TCDScheduler") and steps > scheduler.config.original_inference_steps:
                continue
            scheduler.set_timesteps(steps)
            table = {"steps": steps, "timesteps": [round_(t) for t in scheduler.timesteps]}
            if getattr(scheduler, "sigmas", None) is not None:
                table["sigmas"] = [round_(s) for s in scheduler.sigmas]
            table["initial_noise_scale"] = round_(scheduler.init_noise_sigma)
            tables.append(table)
        predictions = ["v_prediction"] if "rescale_betas_zero_snr" in options else ["epsilon", "v_prediction"]
        if kind not in ("PNDMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverSDEScheduler") and predictions[0] == "epsilon":
            predictions.append("sample")
        runs = [run(kind, options, eta, prediction, 12) for prediction in predictions]
        if name in ("ddim", "pndm", "euler", "heun", "dpm", "dpm-sde", "unipc", "lcm", "ddpm", "tcd-gamma", "deis", "sde"):
            runs.append(run(kind, options, eta, "epsilon", 12, skipped=4))
        cases.append({"name": name, "eta": eta, "config": {"_class_name": kind, **values}, "tables": tables, "runs": runs})
    fixture = {
        "made_by": "Tests/Fixtures/schedule/generate.py",
        "versions": {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": numpy.__version__},
        "count": COUNT,
        "cases": cases,
    }
    path = pathlib.Path(__file__).parent / "schedules.json"
    path.write_text(json.dumps(fixture, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
