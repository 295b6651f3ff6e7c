#!/usr/bin/env python3
"""Times the VAE decoder of longtake and of diffusers (AutoencoderKLWan) on the same random weights.

Both decode the same number of frames in float32 on the same cores, by turns, so that a busy machine
slows both alike. Needs PyTorch and diffusers; set PYTHON or run it with an interpreter that has them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import torch
    from diffusers import AutoencoderKLWan
except ImportError as error:
    sys.exit(f"vae.py compares with diffusers and PyTorch, which this Python has not: {error}")

BINARY = Path(__file__).resolve().parents[2] / "build" / "release" / "longtake"


def make_model(dim, folder):
    torch.manual_seed(1)
    vae = AutoencoderKLWan(base_dim=dim).eval()
    for name, value in vae.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(value, 1.0, 0.1)
    vae.save_pretrained(folder)
    return vae


def longtake_seconds(args, folder):
    rows = folder / "rows.json"
    subprocess.run(
        [args.binary, "bench", "vae", "--model", folder / "vae", "--width", str(args.width), "--height",
         str(args.height), "--frames", str(args.frames), "--threads", str(args.threads), "--repeat", "1",
         "--json", rows], check=True, stdout=subprocess.DEVNULL)
    return json.loads(rows.read_text())["rows"][0]["seconds_min"]


@torch.no_grad()
def diffusers_seconds(vae, latent):
    begin = time.perf_counter()
    vae.decode(latent)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--width", type=int, default=208)
    parser.add_argument("--height", type=int, default=120)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--binary", default=os.environ.get("LONGTAKE_BINARY", BINARY))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vae = make_model(args.dim, folder / "vae")
        latent = torch.randn(1, 16, (args.frames - 1) // 4 + 1, args.height // 8, args.width // 8)
        diffusers_seconds(vae, latent)  # warm-up
        ours, theirs = [], []
        for _ in range(args.rounds):
            theirs.append(diffusers_seconds(vae, latent))
            ours.append(longtake_seconds(args, folder))
    ratios = [t / o for t, o in zip(theirs, ours)]
    print(f"{args.frames} frames of {args.width}x{args.height}, base width {args.dim}, "
          f"{args.threads} threads, {args.rounds} rounds, torch {torch.__version__}")
    print(f"{'':12}{'min':>8}{'median':>8}{'max':>8}")
    for what, values in (("diffusers s", theirs), ("longtake s", ours), ("ratio", ratios)):
        print(f"{what:12}{min(values):8.2f}{statistics.median(values):8.2f}{max(values):8.2f}")


if __name__ == "__main__":
    main()
