// Everything a run is told (README, "Configuration"). A configuration file and then the flags are
// read into it (settings.h has the names, the defaults below are what is used when nobody says
// anything), and finish() checks what can only be checked when all is known.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/problems.h"
#include "launch/storyboard.h"
#include "parallel/plan/plan.h"
#include "runtime/model/model_config.h"
#include "runtime/stream/run_identity.h"

namespace longtake {

enum class DeviceChoice { automatic, cpu, cuda };
enum class Precision { automatic, f32, bf16 };
enum class OffloadChoice { automatic, on, off };
enum class TransportChoice { automatic, loopback, mpi, nccl, ipc };

// An absent optional is "auto": the model's own value, or what fits the machine.
struct RunConfig {
  std::filesystem::path model;
  std::string model_sizes;  // for planning without weights: a table of configs/models, or a file
  std::vector<StoryLine> storyboard;  // as written
  std::vector<PromptAt> prompts;      // the same in video frames, ascending from 0; from finish()
  std::string negative_prompt;

  struct Video {
    int64_t width = 832, height = 480;
    int64_t frames = 81;  // 4k + 1 after finish()
    double fps = 16;
    std::optional<double> seconds;  // replaces `frames` in finish()
  } video;

  struct Sampler {
    std::optional<SchedulerConfig::Solver> solver;
    int64_t steps = 50;
    double guidance = 5.0;
    std::optional<double> guidance_2;      // of the low-noise expert; default: guidance
    std::optional<double> boundary_ratio;  // where the experts change
    std::optional<double> shift;
    int64_t seed = -1;  // -1: choose_defaults() draws one
  } sampler;

  struct Context {
    ContextRule rule = ContextRule::aligned;
    int64_t block = 8, overlap = 4;  // latent frames
    int64_t stagger = 1;             // steps
  } context;

  struct Parallel {
    std::optional<int64_t> branches, stages;
    std::optional<int64_t> workers = 0;  // started by rank 0, on its host
    bool accept_workers = false;         // from anywhere, while it runs
    bool serve_attention = false;        // ranks compute for others while they wait
    TransportChoice transport = TransportChoice::automatic;
  } parallel;

  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  OffloadChoice offload = OffloadChoice::automatic;  // of features to host memory

  struct Checkpoint {
    std::optional<int64_t> every;  // blocks between states of the queue; empty: by their cost
    double maxh = 0;               // hours; 0: no limit
  } checkpoint;

  struct Input {
    std::filesystem::path prompt_embeds, noise;  // safetensors; empty: computed
  } input;

  struct Output {
    std::filesystem::path run;  // empty: choose_defaults() makes one from prompt and seed
    std::filesystem::path video = "video.mp4";  // in the run folder unless absolute
    std::optional<int64_t> vae_tiles;           // side in pixels, 0: whole pictures; absent: auto
    bool latents_only = false;
  } output;
};

// Checks across settings and resolves times: video.seconds, frames 4k + 1, prompts. What had to be
// changed is said in `notices`. finish_shape: only what a plan depends on; no model, no prompt.
void finish_shape(RunConfig& config, Problems& problems, std::vector<std::string>& notices);
void finish(RunConfig& config, Problems& problems, std::vector<std::string>& notices);

// Draws the seed if it is -1 and names the run folder if it is empty. Once per run, on one rank.
void choose_defaults(RunConfig& config);

// Complete and readable again: what is printed and stored.
std::string to_yaml(const RunConfig& config);
// "sampler.steps: 20" lines of everything that shapes the latents: a run is continued only with the
// same.
std::string fingerprint(const RunConfig& config);

}  // namespace longtake
