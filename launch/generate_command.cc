// `longtake generate`: prompt to run folder, one attention window per video.
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>

#include "kernels/base/isa.h"
#include "launch/commands.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/precomputed.h"
#include "launch/progress.h"
#include "launch/report.h"
#include "launch/version.h"
#include "runtime/exec/denoiser.h"
#include "runtime/model/prompt_encoder.h"
#include "runtime/sampler/noise.h"
#include "runtime/sampler/solver.h"
#include "runtime/stream/latent_store.h"
#include "runtime/stream/video_output.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Adds the time of a scope to a counter.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total), start_(Clock::now()) {}
  ~Stopwatch() { total_ += seconds_since(start_); }

 private:
  double& total_;
  Clock::time_point start_;
};

// A run folder that this process made goes away again when nothing was committed to it.
class FreshRun {
 public:
  explicit FreshRun(const fs::path& run) : run_(run), fresh_(!fs::exists(run)) {}
  ~FreshRun() {
    std::error_code ignored;
    if (fresh_) fs::remove_all(run_, ignored);
  }
  void keep() { fresh_ = false; }

 private:
  fs::path run_;
  bool fresh_;
};

// Latents [channels, frames, h, w] of the whole video.
Shape latent_shape(const RunConfig& config, const ModelFolder& folder) {
  const VaeConfig vae = folder.vae_config.value_or(VaeConfig{});
  const int64_t multiple = vae.spatial_factor * folder.transformer_config.patch[1];
  if (config.video.width % multiple != 0 || config.video.height % multiple != 0)
    fail(ExitCode::usage, "video.width and video.height: {} needs multiples of {}, found {} x {}",
         folder.variant, multiple, config.video.width, config.video.height);
  return {folder.transformer_config.in_channels,
          (config.video.frames - 1) / vae.temporal_factor + 1,
          config.video.height / vae.spatial_factor, config.video.width / vae.spatial_factor};
}

std::unique_ptr<Solver> make_solver(const RunConfig& config, const ModelFolder& folder) {
  const double shift = config.sampler.shift.value_or(folder.scheduler.shift);
  if (config.sampler.solver.value_or(folder.scheduler.solver) == SchedulerConfig::Solver::euler)
    return std::make_unique<Euler>(config.sampler.steps, shift);
  return std::make_unique<UniPc>(config.sampler.steps, shift);
}

Guidance guidance_of(const RunConfig& config) {
  return {config.sampler.guidance, config.sampler.guidance_2, config.sampler.boundary_ratio};
}

RunIdentity identity_of(const RunConfig& config, const ModelFolder& folder, const Shape& latent) {
  RunIdentity id;
  id.version = version();
  id.configuration = to_yaml(config);
  id.fingerprint = fingerprint(config);
  id.model = folder.variant;
  id.prompts = config.prompts;
  id.seed = config.sampler.seed;
  id.fps = config.video.fps;
  id.video_frames = config.video.frames;
  id.frames = latent[1];
  id.channels = latent[0];
  id.height = latent[2];
  id.width = latent[3];
  return id;
}

Conditions make_conditions(const RunConfig& config, const ModelFolder& folder, DType compute,
                           StreamRef stream) {
  const bool guided = config.sampler.guidance > 1 || config.sampler.guidance_2.value_or(0) > 1;
  Conditions out;
  if (!config.input.prompt_embeds.empty()) {
    const PrecomputedText text(config.input.prompt_embeds, folder.transformer_config);
    out.positive = text.prompt(0);
    if (guided) out.negative = text.negative();
    return out;
  }
  const PromptEncoder encoder(folder, compute, stream);
  out.positive = encoder.encode(config.prompts.front().text, stream);
  if (guided) out.negative = encoder.encode(config.negative_prompt, stream);
  return out;
}

OwnedTensor make_noise(const RunConfig& config, const Shape& latent) {
  if (!config.input.noise.empty()) return read_noise(config.input.noise, 0, latent);
  OwnedTensor noise(DType::f32, latent);
  const int64_t own = std::max(config.context.block, latent[1] - config.context.overlap);
  NoisePool(static_cast<uint64_t>(config.sampler.seed), own, config.context.overlap).fill(0, noise);
  return noise;
}

// [channels, frames, h, w] -> [frames, channels, h, w], as latents are stored.
OwnedTensor time_first(const OwnedTensor& x) {
  const int64_t c = x.dim(0), t = x.dim(1), plane = x.dim(2) * x.dim(3);
  OwnedTensor out(DType::f32, {t, c, x.dim(2), x.dim(3)});
  for (int64_t i = 0; i < c; ++i)
    for (int64_t j = 0; j < t; ++j)
      std::memcpy(out.as<float>() + (j * c + i) * plane, x.as<float>() + (i * t + j) * plane,
                  static_cast<size_t>(plane) * sizeof(float));
  return out;
}

class Generation {
 public:
  Generation(const RunConfig& config, const GenerateOptions& options)
      : config_(config),
        folder_(read_model_folder(config.model)),
        latent_(latent_shape(config, folder_)),
        compute_(choose_precision(config.precision)),
        pool_(choose_threads(options.threads)),
        stream_(pool_),
        progress_(options.progress) {
    state_.total_blocks = 1;
    state_.total_steps = config.sampler.steps;
    state_.total_frames = config.video.frames;
  }

  void run() {
    if (config_.prompts.size() > 1)
      log_warning("the storyboard has {} prompts; a video of one window follows the first",
                  config_.prompts.size());
    FreshRun fresh(config_.output.run);
    LatentStore store(config_.output.run, identity_of(config_, folder_, latent_));
    if (!store.notice().empty()) log_info("{}", store.notice());
    const OwnedTensor latents = time_first(denoise());
    store.append(latents);
    fresh.keep();
    report_.latents_sha256 = store.latents_sha256();
    store.close();
    state_.blocks = 1;
    if (!config_.output.latents_only) decode(latents);
    progress_.update(state_);
    progress_.finish();
    finish_report();
  }

 private:
  OwnedTensor denoise() {
    Conditions conditions;
    {
      const Stopwatch watch(report_.seconds.text);
      conditions = make_conditions(config_, folder_, compute_, stream_);
    }
    const auto solver = make_solver(config_, folder_);
    const Schedule& schedule = solver->schedule();
    Denoiser denoiser(folder_, guidance_of(config_), conditions, compute_);
    {
      const Stopwatch watch(report_.seconds.load);
      denoiser.load(schedule.timesteps.front(), stream_);
    }
    const Stopwatch watch(report_.seconds.denoise);
    SolverState state;
    state.latent = make_noise(config_, latent_);
    OwnedTensor velocity(DType::f32, latent_);
    progress_.update(state_);
    while (state.step < schedule.steps()) {
      denoiser.velocity(state.latent, schedule.timesteps[static_cast<size_t>(state.step)], velocity,
                        stream_);
      solver->advance(state, velocity, stream_);
      state_.steps = state.step;
      progress_.update(state_);
    }
    weight_bytes_ = denoiser.weight_bytes();
    return std::move(state.latent);
  }

  void decode(ConstTensor latents) {
    const Stopwatch watch(report_.seconds.decode);
    const VideoTarget target{config_.output.run / config_.output.video,
                             config_.output.run / "preview.png", config_.video.fps, 0,
                             config_.video.frames};
    VideoOutput video(
        folder_, target, config_.video.height, config_.video.width,
        [](const std::string& notice) { log_warning("{}", notice); }, stream_);
    for (int64_t t = 0; t < latents.dim(0); ++t) {
      video.push(latents.rows(t, t + 1), stream_);
      state_.frames = video.frames();
      if (report_.seconds.first_frames == 0) report_.seconds.first_frames = seconds_since(start_);
      progress_.update(state_);
    }
    video.close();
  }

  void finish_report() {
    report_.precision = name(compute_);
    report_.isa = name(active_isa());
    report_.threads = pool_.threads();
    report_.frames = config_.video.frames;
    report_.blocks = 1;
    report_.steps = config_.sampler.steps;
    report_.seed = config_.sampler.seed;
    report_.seconds.total = seconds_since(start_);
    RankReport rank;
    rank.host = host_name();
    rank.last_layer = folder_.transformer_config.layers;
    rank.weight_bytes = weight_bytes_;
    rank.peak_bytes = peak_resident_bytes();
    rank.compute_s = report_.seconds.text + report_.seconds.denoise + report_.seconds.decode;
    rank.io_s = report_.seconds.load;
    report_.per_rank.push_back(rank);
    write_report(report_, config_.output.run);
    log_info("{}", to_text(report_));
    log_info("run in {}", config_.output.run.string());
  }

  Clock::time_point start_ = Clock::now();
  const RunConfig& config_;
  ModelFolder folder_;
  Shape latent_;
  DType compute_;
  ThreadPool pool_;
  StreamRef stream_;
  Progress progress_;
  ProgressState state_;
  RunReport report_;
  size_t weight_bytes_ = 0;
};

}  // namespace

int run_generate(const RunConfig& given, const GenerateOptions& options) {
  check_device(given.device);
  RunConfig config = given;
  choose_defaults(config);
  config.model = fs::absolute(config.model).lexically_normal();  // decode finds it from anywhere
  log_debug("{}", to_yaml(config));
  Generation(config, options).run();
  return static_cast<int>(ExitCode::done);
}

}  // namespace longtake
