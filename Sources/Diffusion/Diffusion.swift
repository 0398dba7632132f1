// Diffusion
