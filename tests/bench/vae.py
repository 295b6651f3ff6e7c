#!/usr/bin/env python3
"""The VAE decoder of longtake: time against diffusers (AutoencoderKLWan), and memory against the video's length.

Time: both decode the same number of frames in float32 with the same random weights on the same cores, by
turns, so that a busy machine slows both alike. Memory: peak of a process that decodes 81 frames and of one
that decodes 401. Needs PyTorch and diffusers; set PYTHON or run it with an interpreter that has them.
Ends with a verdict; exits with 1 when a figure is missed.
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
LEAST_SPEED = 1.5  # times as fast as diffusers
MOST_MEMORY = 1.1  # of 401 frames over that of 81


def make_model(dim, folder):
    torch.manual_seed(1)
    vae = AutoencoderKLWan(base_dim=dim).eval()
    for name, value in vae.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(value, 1.0, 0.1)
    vae.save_pretrained(folder)
    return vae


def bench(args, folder, width, height, frames):
    rows = folder / "rows.json"
    subprocess.run(
        [args.binary, "bench", "vae", "--model", folder / "vae", "--width", str(width), "--height", str(height),
         "--frames", str(frames), "--threads", str(args.threads), "--repeat", "1", "--json", rows],
        check=True, stdout=subprocess.DEVNULL)
    return json.loads(rows.read_text())["rows"][0]


def longtake_seconds(args, folder):
    return bench(args, folder, args.width, args.height, args.frames)["seconds_min"]


def memory(args, folder):
    """Peak MB of the process, and MB of frames in it, by number of frames."""
    rows = {frames: bench(args, folder, args.memory_width, args.memory_height, frames) for frames in (81, 401)}
    return {frames: {"peak_MB": row["MB"], "frames_MB": row["frames MB"]} for frames, row in rows.items()}


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
    parser.add_argument("--memory-width", type=int, default=64)
    parser.add_argument("--memory-height", type=int, default=48)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--binary", default=os.environ.get("LONGTAKE", BINARY))
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
        used = memory(args, folder)
    ratios = [t / o for t, o in zip(theirs, ours)]
    print(f"{args.frames} frames of {args.width}x{args.height}, base width {args.dim}, "
          f"{args.threads} threads, {args.rounds} rounds, torch {torch.__version__}")
    print(f"{'':12}{'min':>8}{'median':>8}{'max':>8}")
    for what, values in (("diffusers s", theirs), ("longtake s", ours), ("ratio", ratios)):
        print(f"{what:12}{min(values):8.2f}{statistics.median(values):8.2f}{max(values):8.2f}")
    growth = used[401]["peak_MB"] / used[81]["peak_MB"]
    print(f"\n{args.memory_width}x{args.memory_height}  {'peak MB':>10}{'of frames':>11}")
    for frames, row in used.items():
        print(f"{frames:4} frames{row['peak_MB']:8}{row['frames_MB']:11}")
    speed = statistics.median(ratios)
    good = speed >= LEAST_SPEED and growth <= MOST_MEMORY
    print(f"\nspeed  {speed:.2f} times diffusers, expected at least {LEAST_SPEED}: "
          f"{'reached' if speed >= LEAST_SPEED else 'missed'}")
    print(f"memory {growth:.3f} times that of 81 frames, expected at most {MOST_MEMORY}: "
          f"{'reached' if growth <= MOST_MEMORY else 'missed'}")
    if args.json:
        args.json.write_text(json.dumps({
            "name": "vae", "torch": torch.__version__, "threads": args.threads, "dim": args.dim,
            "width": args.width, "height": args.height, "frames": args.frames, "diffusers_s": theirs,
            "longtake_s": ours, "speed": speed, "memory_size": [args.memory_width, args.memory_height],
            "memory": used, "memory_growth": growth, "reached": good}, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
