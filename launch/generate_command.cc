// `longtake generate`: prompts to a run folder with latent stream and video, on one rank or many.
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "kernels/base/isa.h"
#include "launch/commands.h"
#include "launch/job.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/progress.h"
#include "launch/rank_run.h"
#include "launch/report.h"
#include "launch/trace_file.h"
#include "parallel/comm/comm.h"
#include "parallel/comm/loopback_channel.h"
#include "parallel/cost/cost_model.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

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

// Store, pictures and progress of the process that finishes blocks.
class Output {
 public:
  Output(const Job& job, StreamWriter::Mode mode, ThreadPool& pool, bool progress)
      : fresh_(job.config.output.run),
        store_(job.config.output.run, job.identity()),
        progress_(progress) {
    if (!store_.notice().empty()) log_info("{}", store_.notice());
    const RunConfig& c = job.config;
    if (!c.output.latents_only) {
      const VideoTarget target{c.output.run / c.output.video, c.output.run / "preview.png",
                               c.video.fps, 0, c.video.frames};
      video_.emplace(
          job.folder, target, c.video.height, c.video.width,
          [](const std::string& notice) { log_warning("{}", notice); }, StreamRef(pool));
    }
    writer_.emplace(store_, video_ ? &*video_ : nullptr, mode, pool, choose_threads(0));
    state_.total_blocks = job.plan.layout.blocks().value_or(0);
    state_.total_steps = state_.total_blocks * job.plan.steps;
    state_.total_frames = video_ ? c.video.frames : 0;
  }

  StreamWriter& writer() { return *writer_; }

  void update(int64_t visits) {
    state_.steps = visits;
    state_.blocks = writer_->blocks();
    state_.frames = writer_->frames();
    progress_.update(state_);
    if (state_.blocks > 0) fresh_.keep();
  }

  std::string finish() {
    writer_->finish();
    update(state_.total_steps);
    fresh_.keep();
    progress_.finish();
    const std::string hash = store_.latents_sha256();
    store_.close();
    return hash;
  }

 private:
  FreshRun fresh_;
  LatentStore store_;
  std::optional<VideoOutput> video_;
  std::optional<StreamWriter> writer_;
  Progress progress_;
  ProgressState state_;
};

// Of the ranks' main threads, as the report measures them: decoding in the background left out.
Predicted predicted_of(const Simulation& s) {
  Predicted out;
  out.denoise_s = s.instructions_s;
  out.total_s = s.makespan_s;
  double waited = 0, all = 0;
  for (const SimulatedRank& rank : s.ranks) {
    out.per_rank.push_back({rank.busy_s - rank.background_s, rank.peak_bytes});
    waited += rank.wait_s;
    all += rank.end_s;
  }
  out.idle_share = all > 0 ? waited / all : 0;
  return out;
}

class Generation {
 public:
  Generation(const RunConfig& config, const GenerateOptions& options, Comm& comm)
      : options_(options),
        comm_(comm),
        loopback_(loopback_ranks(config, comm)),
        on_node_(std::max(comm.ranks_on_node(), loopback_)),
        threads_(options.threads > 0 ? options.threads : std::max(1, choose_threads(0) / on_node_)),
        job_(make_job(
            config, comm,
            {loopback_ > 0 ? loopback_ : comm.ranks(), on_node_, threads_, choose_threads(0)},
            options.hardware)) {
    report_.ranks = static_cast<int>(job_.plan.mesh.ranks());
  }

  void run() {
    if (comm_.rank() == 0) log_debug("{}", to_yaml(job_.config));
    const int here = comm_.rank();
    const auto emitter = static_cast<int>(emitting_rank(job_.plan.mesh).value);
    ThreadPool pool(threads_);
    std::optional<Output> output;
    if (loopback_ > 0 || here == emitter) {
      const auto mode =
          report_.ranks == 1 ? StreamWriter::Mode::caller : StreamWriter::Mode::background;
      output.emplace(job_, mode, pool, options_.progress);
    }
    const Clock::time_point text = Clock::now();
    prompts_ = make_prompts(job_, comm_, StreamRef(pool));
    report_.seconds.text = seconds_since(text);
    if (loopback_ > 0)
      run_loopback(*output);
    else
      run_rank(pool, output ? &*output : nullptr);
    // The emitting rank knows the hash; rank 0 writes the report.
    finish_report(comm_.gather(hash_));
  }

 private:
  static int loopback_ranks(const RunConfig& config, const Comm& comm) {
    if (config.parallel.transport != TransportChoice::loopback) return 0;
    if (comm.ranks() > 1)
      fail(ExitCode::usage,
           "parallel.transport: loopback makes ranks in one process, without mpirun");
    return static_cast<int>(config.parallel.stages.value_or(1) *
                            config.parallel.branches.value_or(1));
  }

  void run_rank(ThreadPool& pool, Output* output) {
    const auto transport = comm_.transport(
        {std::chrono::milliseconds(static_cast<int64_t>(options_.deadline_s * 1000))});
    const auto update = [output](int64_t visits) {
      if (output) output->update(visits);
    };
    RankRun rank(job_, {comm_.rank()}, prompts_, transport.get(),
                 output ? &output->writer() : nullptr, pool, update);
    comm_.barrier("all ranks to have read their layers");
    report_.seconds.load = seconds_since(start_) - report_.seconds.text;
    const Clock::time_point start = Clock::now();
    rank.run();
    report_.seconds.denoise = seconds_since(start);
    // The writer's share is complete only when it has finished.
    if (output) hash_ = output->finish();
    for (const std::string& packed : comm_.gather(pack(rank.report())))
      report_.per_rank.push_back(unpack(packed));
    const auto written = output ? output->writer().events() : std::vector<StreamWriter::Event>{};
    traces_ = comm_.gather(trace_events(comm_.rank(), rank.trace(), written));
  }

  // Ranks as threads, each with its own pool.
  void run_loopback(Output& output) {
    LoopbackJob loopback(
        loopback_, {std::chrono::milliseconds(static_cast<int64_t>(options_.deadline_s * 1000))});
    std::vector<std::thread> ranks;
    std::vector<RankReport> reports(static_cast<size_t>(loopback_));
    traces_.resize(static_cast<size_t>(loopback_));
    std::mutex mutex;
    std::exception_ptr error;
    const Clock::time_point start = Clock::now();
    const int emitter = static_cast<int>(emitting_rank(job_.plan.mesh).value);
    for (int r = 0; r < loopback_; ++r)
      ranks.emplace_back([&, r] {
        try {
          ThreadPool pool(threads_);
          const auto transport = loopback.transport(r);
          const auto update = [&, r](int64_t visits) {
            if (r == emitter) output.update(visits);
          };
          RankRun rank(job_, {r}, prompts_, transport.get(),
                       r == emitter ? &output.writer() : nullptr, pool, update);
          rank.run();
          if (r == emitter) hash_ = output.finish();
          reports[static_cast<size_t>(r)] = rank.report();
          traces_[static_cast<size_t>(r)] = trace_events(
              r, rank.trace(),
              r == emitter ? output.writer().events() : std::vector<StreamWriter::Event>{});
        } catch (const std::exception& e) {
          const std::lock_guard lock(mutex);
          if (!error) error = std::current_exception();
          loopback.abort(e.what());
        }
      });
    for (std::thread& rank : ranks) rank.join();
    if (error) std::rethrow_exception(error);
    report_.seconds.denoise = seconds_since(start);
    report_.per_rank = reports;
  }

  void finish_report(const std::vector<std::string>& hashes) {
    if (comm_.rank() != 0) return;
    for (const std::string& hash : hashes)
      if (!hash.empty()) report_.latents_sha256 = hash;
    report_.stages = static_cast<int>(job_.plan.mesh.stages);
    report_.branches = static_cast<int>(job_.plan.mesh.branches);
    report_.precision = name(job_.compute);
    report_.isa = name(active_isa());
    report_.threads = threads_;
    report_.frames = job_.config.video.frames;
    report_.blocks = job_.plan.layout.blocks().value_or(0);
    report_.steps = job_.plan.steps;
    report_.seed = job_.config.sampler.seed;
    for (const RankReport& rank : report_.per_rank) {
      report_.seconds.decode += rank.decode_s;
      report_.seconds.first_frames = std::max(report_.seconds.first_frames, rank.first_frames_s);
    }
    for (const RankReport& rank : report_.per_rank)
      report_.seconds.denoise = std::max(report_.seconds.denoise, rank.run_s);
    report_.seconds.total = seconds_since(start_);
    predict();
    write_report(report_, job_.config.output.run);
    write_trace(traces_, job_.config.output.run);
    log_info("{}", to_text(report_));
    log_info("run in {}", job_.config.output.run.string());
  }

  void predict() {
    PredictedTrace trace(job_.plan.mesh.ranks());
    const CostModel costs(job_.plan, job_.shape, job_.hardware, job_.stages);
    const Simulation simulated =
        simulate(job_.plan, costs, {}, [&](const SimulatedEvent& e) { trace.add(e); });
    report_.predicted = predicted_of(simulated);
    traces_.push_back(trace.events());
  }

  Clock::time_point start_ = Clock::now();
  GenerateOptions options_;
  Comm& comm_;
  int loopback_, on_node_, threads_;
  Job job_;
  PromptSet prompts_;
  RunReport report_;
  std::string hash_;  // of the latents, where they are finished
  std::vector<std::string> traces_;
};

// The first message of a job is enough: other ranks give rank 0 a moment to say what all of them
// found.
int end_job(Comm& comm, const Error& error) {
  constexpr auto kMoment = std::chrono::seconds(1);
  if (comm.rank() != 0) std::this_thread::sleep_for(kMoment);
  log_text(LogLevel::error, error.what());
  flush_log();
  comm.abort(static_cast<int>(error.code()));
  return static_cast<int>(error.code());
}

}  // namespace

int run_generate(const RunConfig& config, const GenerateOptions& options) {
  check_device(config.device);
  const Deadline deadline{
      std::chrono::milliseconds(static_cast<int64_t>(options.deadline_s * 1000))};
  const std::unique_ptr<Comm> comm = make_comm(options.mpi, deadline);
  if (comm->ranks() == 1) {
    Generation(config, options, *comm).run();
    return static_cast<int>(ExitCode::done);
  }
  try {
    Generation(config, options, *comm).run();
  } catch (const Error& e) {
    return end_job(*comm, e);
  } catch (const std::exception& e) {
    return end_job(*comm, Error(ExitCode::error, e.what()));
  }
  return static_cast<int>(ExitCode::done);
}

}  // namespace longtake
