#!/usr/bin/env python3
"""Makes the cases vae/*_tiled of the golden data: what AutoencoderKLWan of diffusers gives with tiling.

make_vae_tiled.py GOLDEN_FOLDER. The pictures have several tiles along one side only: where four tiles
meet, diffusers mixes them in the order in which it visits them, longtake by the product of both fades.
"""
import copy
import json
import sys
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

GRIDS = {"wide": (3, 2, 18), "high": (2, 18, 2)}  # latent frames, rows, columns


@torch.no_grad()
def decode(vae, latent, side):
    mean = torch.tensor(vae.config.latents_mean, dtype=latent.dtype).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std, dtype=latent.dtype).view(1, -1, 1, 1, 1)
    stride = side * 3 // 4
    vae.enable_tiling(side, side, stride, stride)
    return vae.decode(latent[None] * std + mean).sample[0]


def make(golden, name, model):
    vae = AutoencoderKLWan.from_pretrained(golden / model, torch_dtype=torch.float32).eval()
    exact = copy.deepcopy(vae).double()
    side = 8 * vae.config.scale_factor_spatial
    folder = golden / "vae" / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    inputs, expected, runs, error = {}, {}, [], 0.0
    for key, grid in GRIDS.items():
        latent = torch.randn(vae.config.z_dim, *grid)
        frames = decode(vae, latent, side)
        error = max(error, (frames - decode(exact, latent.double(), side)).abs().max().item())
        inputs[f"{key}.latent_normalised"] = latent
        expected[f"{key}.frames"] = frames.contiguous()
        runs.append({"key": key, "latent_grid": grid})
    save_file(inputs, folder / "inputs.safetensors")
    save_file(expected, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps({
        "kind": "vae", "model": model, "tile": side, "decode": runs, "encode": [],
        "reference": f"diffusers {diffusers.__version__}, torch {torch.__version__}",
        "float32_vs_float64": error, "tolerance": {"max_abs": max(1e-5, 4 * error)},
        "files": {"inputs.safetensors": {k: list(v.shape) for k, v in inputs.items()},
                  "expected.safetensors": {k: list(v.shape) for k, v in expected.items()}}}, indent=1) + "\n")
    print(name, error)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(Path(sys.argv[1]), "wan21_tiled", "models/t2v-tiny/vae")
    make(Path(sys.argv[1]), "wan22_tiled", "models/vae22")
