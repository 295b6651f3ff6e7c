"""One transformer block in PyTorch (eager, compiled, and diffusers' own when installed) and in longtake.

Rounds are interleaved, so that a busy machine slows all of them; medians are compared. Start it with
compare.sh. The ratio is the time of the better of PyTorch's eager and compiled forms over longtake's.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F

TEXT_ROWS = 512


class Block(torch.nn.Module):
    """The same work as `longtake bench block`: the text's keys and values are made outside."""

    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.dim, self.heads = dim, heads
        linear = torch.nn.Linear
        for name in ("q1", "k1", "v1", "o1", "q2", "o2"):
            setattr(self, name, linear(dim, dim))
        self.up, self.down = linear(dim, ffn), linear(ffn, dim)
        for name in ("nq1", "nk1", "nq2"):
            setattr(self, name, torch.nn.Parameter(torch.ones(dim)))
        self.norm2 = torch.nn.Parameter(torch.ones(dim)), torch.nn.Parameter(torch.zeros(dim))

    def split(self, x):
        return x.view(x.shape[0], self.heads, -1)

    def attend(self, q, k, v):
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return out.squeeze(0).transpose(0, 1).reshape(-1, self.dim)

    @staticmethod
    def rotate(x, cos, sin):
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).type_as(x)

    def forward(self, x, e, cos, sin, text_k, text_v):
        sh1, sc1, g1, sh2, sc2, g2 = e
        dtype = self.q1.weight.dtype
        a = (F.layer_norm(x, (self.dim,), eps=1e-6) * (1 + sc1) + sh1).to(dtype)
        q = self.split(F.rms_norm(self.q1(a), (self.dim,), self.nq1, 1e-6))
        k = self.split(F.rms_norm(self.k1(a), (self.dim,), self.nk1, 1e-6))
        v = self.split(self.v1(a))
        x = x + g1 * self.o1(self.attend(self.rotate(q, cos, sin), self.rotate(k, cos, sin), v))
        c = F.layer_norm(x, (self.dim,), *self.norm2, 1e-6).to(dtype)
        q = self.split(F.rms_norm(self.q2(c), (self.dim,), self.nq2, 1e-6))
        x = x + self.o2(self.attend(q, text_k, text_v))
        b = (F.layer_norm(x, (self.dim,), eps=1e-6) * (1 + sc2) + sh2).to(dtype)
        return x + g2 * self.down(F.gelu(self.up(b), approximate="tanh"))


def torch_block(args, dtype):
    block = Block(args.dim, args.heads, args.ffn).to(dtype)
    head = args.dim // args.heads
    angles = torch.rand(args.tokens, 1, head // 2) * 100
    text = [torch.randn(TEXT_ROWS, args.heads, head, dtype=dtype) for _ in range(2)]
    # The residual stream, the modulation and layer norm stay in float32, as in longtake.
    inputs = (torch.randn(args.tokens, args.dim), torch.randn(6, args.dim) * 0.1, angles.cos(), angles.sin(), *text)
    return block, inputs


def diffusers_block(args, dtype):
    """Theirs makes the text's keys in every call and keeps the residual stream in `dtype`."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    block = WanTransformerBlock(args.dim, args.ffn, args.heads, cross_attn_norm=True).to(dtype)
    head = args.dim // args.heads
    angles = torch.rand(1, args.tokens, 1, head) * 100
    x = torch.randn(1, args.tokens, args.dim, dtype=dtype)
    text = torch.randn(1, TEXT_ROWS, args.dim, dtype=dtype)
    temb = torch.randn(1, 6, args.dim) * 0.1
    return block, (x, text, temb, (angles.cos(), angles.sin()))


def timed(run, inputs):
    wait = torch.cuda.synchronize if inputs[0].is_cuda else lambda: None
    wait()
    begin = time.perf_counter()
    run(*inputs)
    wait()
    return time.perf_counter() - begin


def with_backend(block, backend):
    """The compiled block with one kernel for its attention: compiling fixes the choice."""
    from torch.nn.attention import sdpa_kernel

    compiled = torch.compile(block)

    def run(*inputs):
        with sdpa_kernel(backend):
            return compiled(*inputs)

    return run


def gpu_runs(args, dtype):
    """Eager, and compiled with every attention kernel that PyTorch has for this GPU."""
    from torch.nn.attention import SDPBackend

    torch.manual_seed(1)
    block, inputs = torch_block(args, dtype)
    block, inputs = block.cuda(), tuple(x.cuda() for x in inputs)
    block.norm2 = tuple(x.cuda() for x in block.norm2)
    runs = {"torch eager": (block, inputs)}
    for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
        torch._dynamo.reset()
        run = with_backend(block, backend)
        try:
            run(*inputs)
        except RuntimeError as error:
            print(f"# torch compiled, {name}: {str(error).splitlines()[0]}")
            continue
        runs[f"torch {name}"] = (run, inputs)
    return runs


def longtake_seconds(args, name):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "block.json")
        command = [os.environ["LONGTAKE"], "bench", "block", "--json", path, "--dtype", name]
        command += ["--device", args.device, "--threads", str(args.threads), "--repeat", str(args.repeat), "--head-dim", str(args.dim // args.heads)]
        for key in ("dim", "heads", "ffn", "tokens"):
            command += [f"--{key}", str(getattr(args, key))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(path) as file:
            rows = json.load(file)["rows"]
    return [row["seconds_median"] for row in rows if row["part"] == "block"]


def cpu_runs(args, dtype):
    block, inputs = torch_block(args, dtype)
    runs = {"torch eager": (block, inputs)}
    if not args.no_compile:
        mode = "max-autotune-no-cudagraphs" if args.autotune else "default"
        runs["torch compiled"] = (torch.compile(block, mode=mode), inputs)
    try:
        runs["diffusers eager"] = diffusers_block(args, dtype)
    except ImportError:
        print("# diffusers is not installed: its block is left out")
    return runs


def compare(args, name):
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
    runs = gpu_runs(args, dtype) if args.device == "cuda" else cpu_runs(args, dtype)
    for run, values in runs.values():
        for _ in range(2):
            run(*values)
    seconds = {key: [] for key in ("longtake", *runs)}
    for _ in range(args.rounds):
        seconds["longtake"] += longtake_seconds(args, name)
        for key, (run, values) in runs.items():
            seconds[key] += [timed(run, values) for _ in range(args.repeat)]
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    for key, values in seconds.items():
        ratio = medians[key] / medians["longtake"]
        print(f"{name:5} {key:16} {min(values):8.5f} {medians[key]:8.5f} {max(values):8.5f} s {ratio:6.2f}", flush=True)
    best = min((key for key in runs if key.startswith("torch")), key=medians.get)
    by_median = medians[best] / medians["longtake"]
    by_minimum = min(seconds[best]) / min(seconds["longtake"])
    print(f"{name:5} ratio {by_median:.2f} by medians, {by_minimum:.2f} by minima: {best} over longtake", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for key, value in {"dim": 1536, "heads": 12, "ffn": 8960, "tokens": 3120, "threads": 2, "repeat": 3, "rounds": 3}.items():
        parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--dtype", choices=["f32", "bf16"], help="default: both")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    parser.add_argument("--autotune", action="store_true", help="compile with max-autotune")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"# torch {torch.__version__}, {args.threads} threads, {args.tokens} tokens, dim {args.dim}, ffn {args.ffn}")
    print("# dtype what                  min   median      max    over longtake")
    with torch.inference_mode():
        for name in [args.dtype] if args.dtype else ["f32", "bf16"]:
            compare(args, name)


if __name__ == "__main__":
    main()
