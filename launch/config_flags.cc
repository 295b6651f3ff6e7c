#include "launch/config_flags.h"

namespace longtake {

const std::vector<ConfigFlag>& config_flags() {
  static const char* const kInput = "Model and prompt";
  static const char* const kVideo = "Video";
  static const char* const kSampler = "Sampler";
  static const char* const kQueue = "Block queue";
  static const char* const kMachine = "Machine";
  static const char* const kOutput = "Output";
  static const std::vector<ConfigFlag> flags = {
      {"model", "--model,--model-path,--ckpt-dir", "FOLDER", kInput,
       "model folder, in diffusers layout or with original Wan files"},
      {"model_sizes", "--model-sizes", "NAME", kInput,
       "for planning without weights: a table of configs/models, or a file"},
      {"negative_prompt", "--negative-prompt,--neg-prompt", "TEXT", kInput,
       "what should not be seen"},
      {"input.prompt_embeds", "--prompt-embeds", "FILE", kInput,
       "safetensors with text.0, text.1 ... and uncond instead of the text encoder"},
      {"input.noise", "--noise", "FILE", kInput,
       "safetensors with noise.0, noise.1 ..., one [C, frames, h, w] per block"},
      {"video.width", "--width", "N", kVideo, "pixels, a multiple of 16 (default 832)"},
      {"video.height", "--height", "N", kVideo, "pixels, a multiple of 16 (default 480)"},
      {"video.frames", "--num-frames,--frame-num,--frames", "N", kVideo,
       "frames, rounded down to 4k + 1 (default 81)"},
      {"video.fps", "--fps", "N", kVideo, "frames per second of the video (default 16)"},
      {"sampler.solver", "--solver,--sample-solver", "NAME", kSampler,
       "unipc or euler (default: the model's)"},
      {"sampler.steps", "--num-inference-steps,--steps,--sample-steps", "N", kSampler,
       "denoising steps (default 50)"},
      {"sampler.guidance", "--guidance-scale,--cfg-scale,--sample-guide-scale", "X", kSampler,
       "classifier-free guidance, 1 switches it off (default 5)"},
      {"sampler.guidance_2", "--guidance-scale-2", "X", kSampler,
       "guidance of the low-noise expert, Wan 2.2 (default: the same)"},
      {"sampler.boundary_ratio", "--boundary-ratio", "X", kSampler,
       "noise level at which the experts change, Wan 2.2 (default: the model's)"},
      {"sampler.shift", "--flow-shift,--shift,--sample-shift", "X", kSampler,
       "shift of the noise levels (default: the model's)"},
      {"sampler.seed", "--seed", "N", kSampler, "-1 draws one and prints it (default)"},
      {"context.rule", "--context-rule", "NAME", kQueue,
       "what a block sees of its neighbours: aligned, dualparal, causal, isolated (default "
       "aligned)"},
      {"context.block", "--block,--num-per-block", "N", kQueue,
       "latent frames per block (default 8)"},
      {"context.overlap", "--overlap,--num-cat", "N", kQueue,
       "latent frames seen of each neighbour (default 4)"},
      {"context.stagger", "--stagger", "N", kQueue,
       "steps between neighbouring blocks (default 1)"},
      {"device", "--device", "NAME", kMachine, "auto, cpu or cuda (default auto)"},
      {"precision", "--precision", "NAME", kMachine, "auto, f32 or bf16 (default auto)"},
      {"offload", "--offload", "NAME", kMachine,
       "on keeps features of neighbours in host memory instead of the GPU's: auto, on or off "
       "(default auto: when they would not fit)"},
      {"parallel.stages", "--stages", "N", kMachine, "pipeline stages (default: fit the ranks)"},
      {"parallel.branches", "--branches", "N", kMachine,
       "1, or 2 to run the guidance branches on separate ranks (default: fit the ranks)"},
      {"parallel.workers", "--workers", "N", kMachine,
       "attention workers to start beside rank 0, or auto (default 0)"},
      {"parallel.accept_workers", "--accept-workers", "NAME", kMachine,
       "on lets `longtake worker --connect RUN/workers.addr` join from anywhere: on or off "
       "(default off)"},
      {"parallel.serve_attention", "--serve-attention", "NAME", kMachine,
       "on lets a rank compute attention for the others while it waits for them: on or off "
       "(default off)"},
      {"parallel.transport", "--transport", "NAME", kMachine,
       "auto, loopback, mpi, nccl or ipc (default auto)"},
      {"output.run", "--output,-o,--output-path", "FOLDER", kOutput,
       "run folder (default: runs/ and a name made of prompt and seed)"},
      {"output.video", "--video", "FILE", kOutput,
       "video file, in the run folder unless absolute (default video.mp4)"},
      {"output.vae_tiles", "--vae-tiles,--vae-tiling,--vae-tile", "N", kOutput,
       "decode in overlapping tiles of N pixels a side: auto, off or a multiple of 64 (default "
       "auto: 256 when whole pictures would take more than half of the memory)"},
      {"checkpoint.every", "--checkpoint-every", "N", kOutput,
       "finished blocks between commits of the queue's state (default: as often as costs 1 %)"},
      {"checkpoint.maxh", "--maxh", "HOURS", kOutput,
       "stop at a commit before so many hours (default: no limit)"},
  };
  return flags;
}

}  // namespace longtake
