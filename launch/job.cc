#include "launch/job.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>

#include "launch/calibrate.h"
#include "launch/input_digest.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/memory_need.h"
#include "launch/offload_choice.h"
#include "launch/plan_workers.h"
#include "launch/precomputed.h"
#include "launch/version.h"
#include "launch/work_device.h"
#include "parallel/cost/cost_model.h"
#include "runtime/model/prompt_encoder.h"
#include "runtime/stream/latent_reader.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;

// Settings that are read but that nothing stands behind yet are refused, not ignored.
void check_available(const RunConfig& config) {
  const TransportChoice transport = config.parallel.transport;
  const bool between_gpus = transport == TransportChoice::ipc || transport == TransportChoice::nccl;
  if (between_gpus && config.device != DeviceChoice::cuda)
    fail(ExitCode::usage, "parallel.transport: {} needs --device cuda",
         transport == TransportChoice::ipc ? "ipc" : "nccl");
  (void)choose_offload(config.offload, config.device, 0);
}

// What rank 0 draws or names is the same everywhere.
void share_choices(RunConfig& config, Comm& comm) {
  choose_defaults(config);
  const nlohmann::json mine{{"seed", config.sampler.seed}, {"run", config.output.run.string()}};
  const auto shared = nlohmann::json::parse(comm.broadcast(mine.dump()));
  config.sampler.seed = shared.at("seed");
  config.output.run = shared.at("run").get<std::string>();
  config.model = fs::absolute(config.model).lexically_normal();  // decode finds it from anywhere
}

// Where the plan begins: a run that is, or is to be, longer than it once was keeps the blocks that
// it had then. A run that does not go on with this configuration is refused by its store.
BlockLayout begin_layout(BlockLayout layout, const RunConfig& config) {
  std::error_code error;
  if (!fs::exists(config.output.run / "RUN.json", error)) return layout;
  const LatentReader reader(config.output.run);
  const int64_t frames = reader.identity().video_frames;
  const auto& extensions = reader.log().extensions;
  if (config.video.frames == frames && !extensions.empty()) {
    layout.first_block = extensions.back().first_block;
    layout.finished_frames = extensions.back().finished_frames;
  } else if (config.video.frames > frames && reader.complete()) {
    layout.first_block = static_cast<int64_t>(reader.blocks().size());
    layout.finished_frames = reader.frames();
  }
  return layout;
}

// As rank 0 finds the run folder.
BlockLayout share_layout(const BlockLayout& layout, const RunConfig& config, Comm& comm) {
  nlohmann::json found;
  if (comm.rank() == 0) {
    const BlockLayout begun = begin_layout(layout, config);
    found = {begun.first_block, begun.finished_frames};
  }
  found = nlohmann::json::parse(comm.broadcast(found.dump()));
  BlockLayout out = layout;
  out.first_block = found.at(0), out.finished_frames = found.at(1);
  return out;
}

// Sizes that each are allowed can be absurd together.
void check_memory(const Job& job, const Comm& comm) {
  // Ranks as threads share this process's memory.
  const auto ranks = comm.ranks() == 1 ? job.plan.mesh.ranks() : 1;
  uint64_t need = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    const RankId rank{ranks == 1 ? comm.rank() : r};
    need += least_bytes({&job.folder.transformer_config, job.plan, rank,
                         job.stages.at(static_cast<size_t>(job.plan.mesh.stage(rank).value)).hull(),
                         job.compute, job.height, job.width});
  }
  const uint64_t have = machine_bytes();
  if (need <= have) return;
  const auto& patch = job.folder.transformer_config.patch;
  const int64_t frames = std::min(job.plan.layout.block_frames, job.frames);
  fail(ExitCode::usage,
       "video: a block of {} latent frames of {} x {} has {} tokens, whose numbers alone take "
       "{:.1f} "
       "GB; this machine has {:.1f} GB of memory. Choose a smaller size or a shorter block (the "
       "latents of all {} frames are {:.1f} GB)",
       frames, job.width, job.height, frames * (job.height / patch[1]) * (job.width / patch[2]),
       static_cast<double>(need) / 1e9, static_cast<double>(have) / 1e9, job.config.video.frames,
       4e-9 * static_cast<double>(job.frames * job.channels) *
           static_cast<double>(job.height * job.width));
}

// Up to a second for large models; a tenth for those that denoise a block in less.
double seconds_to_measure(const ModelShape& model, const PlanSpec& plan) {
  const double flops = forward_flops(model, full_visit(plan, model)).total();
  return std::clamp(flops * 1e-10, 0.1, 0.8);
}

// Processes or threads that will compute on this node beside this rank and measure nothing
// themselves: ranks that are threads of this process, and the workers that rank 0 starts.
int64_t silent_neighbours(const Job& job, const Comm& comm, const JobRanks& ranks) {
  if (job.config.device != DeviceChoice::cpu) return 0;
  int64_t out = comm.ranks() == 1 ? ranks.ranks - 1 : 0;
  if (comm.rank() == 0) out += job.config.parallel.workers.value_or(0);
  const int64_t room = choose_threads(0) / ranks.threads - comm.ranks_on_node();
  return std::clamp<int64_t>(out, 0, std::max<int64_t>(0, room));
}

// While others do the same, as they will in the run: neighbours on a node slow each other down.
HardwareFile measure_in_company(const Job& job, const RateProbe& probe, const JobRanks& ranks,
                                int rank_on_node, int64_t neighbours) {
  const auto measure = [&] {
    ThreadPool pool(ranks.threads);
    WorkDevice device(job.config.device, rank_on_node, pool);
    return measure_rates(probe, device.stream());
  };
  std::vector<std::future<HardwareFile>> company;
  for (int64_t i = 0; i < neighbours; ++i)
    company.push_back(std::async(std::launch::async, measure));
  HardwareFile out = measure();
  for (auto& neighbour : company) (void)neighbour.get();
  return out;
}

// Rank 0's numbers: the layers must be shared out alike everywhere. All ranks measure at the same
// time.
HardwareProfile share_hardware(const Job& job, Comm& comm, const JobRanks& ranks,
                               const std::string& hardware) {
  std::string text;
  if (!hardware.empty()) {
    if (comm.rank() == 0) text = to_yaml(read_hardware(hardware));
  } else {
    RateProbe probe = probe_of(job.plan, job.shape);
    probe.dtypes = {job.compute};
    probe.seconds = seconds_to_measure(job.shape, job.plan);
    probe.vae = job.folder.vae;
    probe.memory_bytes = machine_memory_bytes() / ranks.on_node;
    text = to_yaml(measure_in_company(job, probe, ranks, comm.rank_on_node(),
                                      silent_neighbours(job, comm, ranks)));
  }
  text = comm.broadcast(text);
  if (comm.rank() == 0) log_debug("rates that the layers are shared out by:\n{}", text);
  HardwareProfile out = parse_hardware(text, "hardware of rank 0").profile(job.compute);
  const auto cores = static_cast<double>(comm.max(ranks.cores));
  out.spare_speed = std::max(1.0, cores / ranks.threads);
  return out;
}

// Each is a process beside rank 0.
void check_worker_count(const RunConfig& config, int64_t cores) {
  constexpr int64_t kMostPerCore = 4;  // more would only wait for each other
  const int64_t workers = config.parallel.workers.value_or(0);
  if (workers > kMostPerCore * cores)
    fail(ExitCode::usage,
         "parallel.workers: expected at most {} processes beside rank 0, {} for each of its {} "
         "cores, found {}; others join from elsewhere with --accept-workers on",
         kMostPerCore * cores, kMostPerCore, cores, workers);
}

// `workers: auto`: as many of the spare devices of rank 0's node as make the run faster.
int64_t choose_workers(const Job& job, Comm& comm, const JobRanks& ranks) {
  int64_t best = 0;
  if (comm.rank() == 0) {
    const auto seconds = [&](int64_t workers) {
      return split_seconds({job.plan.mesh, workers}, job.plan, job.shape, job.hardware);
    };
    const double alone = seconds(0);
    double least = (1 - worth_workers) * alone;
    for (int64_t workers = 1; workers <= ranks.spare; ++workers)
      if (const double s = seconds(workers); s < least) best = workers, least = s;
    if (ranks.spare == 0)
      log_info("workers: auto starts none, there is no spare device beside the ranks");
    else
      log_info("workers: auto starts {} of {} possible: {:.1f} s instead of {:.1f} s expected",
               best, ranks.spare, best > 0 ? least : alone, alone);
  }
  return std::stoll(comm.broadcast(std::to_string(best)));
}

void refuse_other_size(const Mesh& mesh, int64_t ranks) {
  if (mesh.ranks() != ranks)
    fail(ExitCode::usage, "parallel: {} stages x {} branches need {} ranks, this job has {}",
         mesh.stages, mesh.branches, mesh.ranks(), ranks);
}

}  // namespace

std::unique_ptr<Solver> Job::solver() const {
  const double shift = config.sampler.shift.value_or(folder.scheduler.shift);
  if (config.sampler.solver.value_or(folder.scheduler.solver) == SchedulerConfig::Solver::euler)
    return std::make_unique<Euler>(config.sampler.steps, shift);
  return std::make_unique<UniPc>(config.sampler.steps, shift);
}

Guidance Job::guidance() const {
  return guidance_of(config);
}

RunIdentity Job::identity() const {
  RunIdentity id;
  id.version = version();
  id.configuration = to_yaml(config);
  id.fingerprint = fingerprint(config) + computes_with;
  id.model = folder.variant;
  id.prompts = config.prompts;
  id.seed = config.sampler.seed;
  id.fps = config.video.fps;
  id.video_frames = config.video.frames;
  id.frames = frames;
  id.channels = channels;
  id.height = height;
  id.width = width;
  return id;
}

int64_t Job::prompt_of(BlockId block) const {
  if (config.prompts.empty()) return 0;
  const int64_t latent = plan.layout.first_frame(block);
  const int64_t factor = folder.vae_config ? folder.vae_config->temporal_factor : 4;
  const int64_t frame = latent == 0 ? 0 : (latent - 1) * factor + 1;
  int64_t index = 0;
  while (index + 1 < static_cast<int64_t>(config.prompts.size()) &&
         config.prompts[static_cast<size_t>(index + 1)].frame <= frame)
    ++index;
  return index;
}

Job make_job(const RunConfig& config, Comm& comm, const JobRanks& ranks,
             const std::string& hardware) {
  check_available(config);
  check_worker_count(config, comm.max(ranks.cores));
  Job job;
  job.config = config;
  share_choices(job.config, comm);
  job.folder = read_model_folder(job.config.model);
  const ModelSizes sizes = sizes_of(job.folder);
  RunShape shape = run_shape(job.config, sizes);
  shape.plan.layout = share_layout(shape.plan.layout, job.config, comm);
  job.compute = choose_precision(job.config.precision, job.config.device);
  job.channels = shape.channels, job.frames = shape.frames;
  job.height = shape.height, job.width = shape.width;
  job.plan = shape.plan;
  job.shape = model_shape(job.config, sizes, shape);
  if (!comm.all_same(fingerprint(job.config) + to_yaml(job.config)))
    fail(ExitCode::usage, "the ranks were given different configurations");
  const std::string weights = input_digest(job.config, job.folder);
  if (!comm.all_same(weights))
    fail(ExitCode::bad_data, "the ranks read different weights under {}",
         job.config.model.string());
  const std::string numbers = numerics(job.compute, job.config.device);
  if (!comm.all_same(numbers))
    fail(ExitCode::usage,
         "the ranks would round differently (rank {}: {}); LONGTAKE_ISA can make them the same",
         comm.rank(), numbers.substr(0, numbers.size() - 1));
  job.computes_with = weights + numbers;
  job.hardware = share_hardware(job, comm, ranks, hardware);
  job.plan.mesh = choose_mesh(job.config, ranks.ranks, job.plan, job.shape, job.hardware);
  refuse_other_size(job.plan.mesh, ranks.ranks);
  check_spec(job.plan);
  job.stages = split_layers(job.plan, job.shape, job.hardware);
  check_memory(job, comm);
  if (!job.config.parallel.workers) job.config.parallel.workers = choose_workers(job, comm, ranks);
  job.offload = choose_offload(job, comm, ranks.on_node);
  return job;
}

namespace {

void append(std::string& out, const OwnedTensor& rows) {
  const int64_t shape[2] = {rows ? rows.dim(0) : 0, rows ? rows.dim(1) : 0};
  out.append(reinterpret_cast<const char*>(shape), sizeof shape);
  if (rows) out.append(reinterpret_cast<const char*>(rows.as<float>()), rows.bytes());
}

OwnedTensor take(const std::string& in, size_t& at) {
  int64_t shape[2];
  std::memcpy(shape, in.data() + at, sizeof shape);
  at += sizeof shape;
  if (shape[0] * shape[1] == 0) return {};
  OwnedTensor rows(DType::f32, {shape[0], shape[1]});
  std::memcpy(rows.as<float>(), in.data() + at, rows.bytes());
  at += rows.bytes();
  return rows;
}

}  // namespace

PromptSet encode_prompts(const Job& job, StreamRef stream) {
  PromptSet out;
  const bool guided = job.plan.guided;
  if (!job.config.input.prompt_embeds.empty()) {
    const PrecomputedText text(job.config.input.prompt_embeds, job.folder.transformer_config);
    const size_t count = std::max<size_t>(1, job.config.prompts.size());
    for (size_t i = 0; i < count; ++i) out.positive.push_back(text.prompt(static_cast<int64_t>(i)));
    if (guided) out.negative = text.negative();
    return out;
  }
  const PromptEncoder encoder(job.folder, job.compute, stream);
  for (const PromptAt& prompt : job.config.prompts)
    out.positive.push_back(encoder.encode(prompt.text, stream));
  if (guided) out.negative = encoder.encode(job.config.negative_prompt, stream);
  return out;
}

PromptSet share_prompts(const PromptSet& mine, Comm& comm) {
  std::string packed;
  if (comm.rank() == 0) {
    append(packed, mine.negative);
    for (const OwnedTensor& rows : mine.positive) append(packed, rows);
  }
  packed = comm.broadcast(packed);
  PromptSet out;
  size_t at = 0;
  out.negative = take(packed, at);
  while (at < packed.size()) out.positive.push_back(take(packed, at));
  return out;
}

NoiseSource::NoiseSource(const Job& job)
    : job_(job),
      pool_(static_cast<uint64_t>(job.config.sampler.seed), job.plan.layout.block_frames,
            job.plan.layout.context_frames) {}

void NoiseSource::fill(BlockId block, Tensor noise) {
  if (job_.config.input.noise.empty()) return pool_.fill(block.value, noise);
  const OwnedTensor given = read_noise(job_.config.input.noise, block.value, noise.shape);
  std::memcpy(noise.data, given.as<float>(), noise.bytes());
}

}  // namespace longtake
