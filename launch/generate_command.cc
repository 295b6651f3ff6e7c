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
#include "launch/rank_run.h"
#include "launch/rank_workers.h"
#include "launch/report.h"
#include "launch/run_limits.h"
#include "launch/run_output.h"
#include "launch/together.h"
#include "launch/trace_file.h"
#include "launch/transport_choice.h"
#include "launch/work_device.h"
#include "parallel/attention/worker_costs.h"
#include "parallel/comm/comm.h"
#include "parallel/comm/loopback_channel.h"

namespace longtake {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Query rows x keys of a head: below, handing it over takes longer than a processor or a GPU needs.
constexpr double kLeastWorkCpu = 2e5, kLeastWorkGpu = 1e7;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::optional<std::chrono::system_clock::time_point> job_end(const GenerateOptions& options) {
  if (!options.job_end) return {};
  return std::chrono::system_clock::time_point(std::chrono::seconds(*options.job_end));
}

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
        threads_(options.threads > 0 ? options.threads : shared_threads(config)),
        job_(make_job(
            config, comm,
            {loopback_ > 0 ? loopback_ : comm.ranks(), on_node_, threads_, choose_threads(0),
             std::max(0, devices_here(config.device, threads_) - on_node_)},
            options.hardware)),
        limits_(start_, config.checkpoint.maxh, job_end(options)) {
    report_.ranks = static_cast<int>(job_.plan.mesh.ranks());
  }

  ExitCode run() {
    if (comm_.rank() == 0) log_debug("{}", to_yaml(job_.config));
    const int here = comm_.rank();
    const auto emitter = static_cast<int>(emitting_rank(job_.plan.mesh).value);
    ThreadPool pool(threads_);
    std::optional<RunOutput> output;
    if (loopback_ > 0 || here == emitter) {
      const auto mode =
          report_.ranks == 1 ? StreamWriter::Mode::caller : StreamWriter::Mode::background;
      output.emplace(job_, mode, pool, comm_.rank_on_node(), options_.progress);
    }
    begin_ = shared_start(output ? output->start() : RunStart{});
    open_to_workers();
    const Clock::time_point text = Clock::now();
    encode_prompts_on_rank_0(pool, output ? &*output : nullptr);
    report_.seconds.text = seconds_since(text);
    if (loopback_ > 0)
      run_loopback(*output);
    else
      run_rank(pool, output ? &*output : nullptr);
    if (workers_) workers_->finish();
    // The emitting rank knows the hash; rank 0 writes the report.
    for (const std::string& packed : comm_.gather(commit_ ? pack(*commit_) : ""))
      if (!packed.empty()) report_.commit = unpack_commits(packed);
    if (stopped_by_.empty()) {
      finish_report();
      return ExitCode::done;
    }
    if (comm_.rank() == 0)
      log_info(
          "stopped ({}) with {} of {} blocks committed; run it again to go on: longtake resume "
          "{}",
          stopped_by_, report_.commit.blocks, job_.plan.layout.blocks().value_or(0),
          job_.config.output.run.string());
    return ExitCode::stopped;
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

  // GPUs, or shares of the cores as large as a rank's.
  static int devices_here(DeviceChoice device, int threads) {
    return device == DeviceChoice::cuda ? static_cast<int>(cuda::devices().size())
                                        : choose_threads(0) / threads;
  }

  // Workers that are started here have cores too.
  int shared_threads(const RunConfig& config) const {
    return std::max(
        1, choose_threads(0) / (on_node_ + static_cast<int>(config.parallel.workers.value_or(0))));
  }

  // Every rank reads and writes the run folder: the state of its own layers.
  RunStart shared_start(const RunStart& mine) {
    const RunStart out{comm_.max(mine.epoch), comm_.max(mine.sweep)};
    const fs::path description = job_.config.output.run / "RUN.json";
    std::error_code error;
    const bool seen = fs::exists(description, error);
    if (comm_.max(seen ? 0 : 1) != 0)
      fail(ExitCode::cannot_create,
           "{} is not seen by every rank{}: the run folder must be on a file system that all share",
           description.string(),
           seen ? "" : fmt::format(" (rank {} on {})", comm_.rank(), host_name()));
    return out;
  }

  void open_to_workers() {
    const int64_t ranks = job_.plan.mesh.ranks();
    if (job_.config.parallel.serve_attention && ranks == 1)
      log_info("serve_attention: one rank has no other to serve");
    if (!wants_workers(job_.config, ranks)) return;
    DispatchRules rules;
    rules.least_work = options_.least_worker_work.value_or(
        job_.config.device == DeviceChoice::cuda ? kLeastWorkGpu : kLeastWorkCpu);
    workers_.emplace(job_, comm_, rules, comm_.rank(), std::max(1, loopback_));
    workers_->start(threads_);
  }
  RankAttention attention_of(int rank) {
    return workers_ ? workers_->of_rank(rank) : RankAttention{};
  }

  void encode_prompts_on_rank_0(ThreadPool& pool, RunOutput* output) {
    PromptSet mine;
    together(
        comm_, "rank 0 to have encoded the prompts",
        [&] {
          if (comm_.rank() != 0) return;
          WorkDevice device(job_.config.device, comm_.rank_on_node(), pool);
          mine = encode_prompts(job_, device.stream());
        },
        [&] {
          if (output) output->discard();
        });
    prompts_ = share_prompts(mine, comm_);
  }

  void run_rank(ThreadPool& pool, RunOutput* output) {
    const Deadline deadline{
        std::chrono::milliseconds(static_cast<int64_t>(options_.deadline_s * 1000))};
    const DataPath path = choose_transport(job_.config, comm_);
    const auto make_channels = [&](StreamRef stream) {
      return make_transport(path, comm_.transport(deadline), stream, deadline);
    };
    const auto update = [output](int64_t visits) {
      if (output) output->update(visits);
    };
    std::optional<RankRun> made;
    together(
        comm_, "all ranks to have read their layers",
        [&] {
          made.emplace(job_, RankId{comm_.rank()}, begin_, limits_, prompts_, make_channels,
                       output ? &output->writer() : nullptr, attention_of(comm_.rank()), pool,
                       comm_.rank_on_node(), update);
        },
        [&] {
          if (output) output->discard();
        });
    RankRun& rank = *made;
    report_.seconds.load = seconds_since(start_) - report_.seconds.text;
    const Clock::time_point start = Clock::now();
    rank.run();
    report_.seconds.denoise = seconds_since(start);
    stopped_by_ = rank.stopped_by();
    if (stopped_by_.empty()) wait_for_output(output);
    // The writer's share is complete only when it has finished.
    if (output) commit_ = stopped_by_.empty() ? output->finish() : output->stop();
    for (const std::string& packed : comm_.gather(pack(rank.report())))
      report_.per_rank.push_back(unpack(packed));
    const auto written = output ? output->writer().events() : std::vector<StreamWriter::Event>{};
    traces_ = comm_.gather(trace_events(comm_.rank(), rank.trace(), written));
  }

  // The last blocks may take longer to decode than the others may wait for one message: the rank
  // that decodes says again and again that it is at work.
  void wait_for_output(RunOutput* output) {
    constexpr auto kPause = std::chrono::milliseconds(500);
    for (bool busy = true; busy;) {
      busy = output && !output->writer().settled(kPause);
      if (output) output->update();
      busy = comm_.max(busy ? 1 : 0) != 0;
    }
  }

  // Ranks as threads, each with its own pool.
  void run_loopback(RunOutput& output) {
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
          const auto update = [&, r](int64_t visits) {
            if (r == emitter) output.update(visits);
          };
          RankRun rank(
              job_, {r}, begin_, limits_, prompts_,
              [&](StreamRef) { return loopback.transport(r); },
              r == emitter ? &output.writer() : nullptr, attention_of(r), pool, r, update);
          rank.run();
          if (r == emitter) {
            stopped_by_ = rank.stopped_by();
            commit_ = stopped_by_.empty() ? output.finish() : output.stop();
          }
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

  void finish_report() {
    if (comm_.rank() != 0) return;
    report_.stages = static_cast<int>(job_.plan.mesh.stages);
    report_.branches = static_cast<int>(job_.plan.mesh.branches);
    report_.workers = static_cast<int>(joined_workers());
    report_.precision = name(job_.compute);
    const bool gpu = job_.config.device == DeviceChoice::cuda;
    report_.device = gpu ? "cuda" : "cpu";
    report_.isa = gpu ? device_name(job_.config.device) : std::string(name(active_isa()));
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

  // Of the rank that most of them came to.
  size_t joined_workers() const {
    size_t most = 0;
    for (const RankReport& rank : report_.per_rank)
      most = std::max(most, rank.attention.workers.size());
    return most;
  }

  void predict() {
    PredictedTrace trace(job_.plan.mesh.ranks());
    const WorkerCosts costs(job_.plan, job_.shape, job_.hardware, job_.stages,
                            worker_pool(job_.hardware, job_.config.parallel.workers.value_or(0)));
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
  RunLimits limits_;
  RunStart begin_;
  std::optional<RankWorkers> workers_;
  std::optional<CommitReport> commit_;  // of the rank that commits
  std::string stopped_by_;
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

int run_generate(const RunConfig& asked, const GenerateOptions& options) {
  catch_stop_signals();  // a request that comes while the job starts is not lost
  RunConfig config = asked;
  config.device = choose_device(config.device);
  const Deadline deadline{
      std::chrono::milliseconds(static_cast<int64_t>(options.deadline_s * 1000))};
  const std::unique_ptr<Comm> comm = make_comm(options.mpi, deadline);
  if (comm->ranks() == 1) return static_cast<int>(Generation(config, options, *comm).run());
  try {
    return static_cast<int>(Generation(config, options, *comm).run());
  } catch (const Error& e) {
    return end_job(*comm, e);
  } catch (const std::exception& e) {
    return end_job(*comm, Error(ExitCode::error, e.what()));
  }
}

}  // namespace longtake
