// `longtake worker`: computes attention for a running job until the job ends.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "launch/commands.h"
#include "launch/input_digest.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/report.h"
#include "launch/run_limits.h"
#include "launch/work_device.h"
#include "parallel/attention/pair_listener.h"
#include "parallel/attention/worker.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kConnect{10};
constexpr std::chrono::milliseconds kAgain{200};

uint64_t random_number() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// Links to all ranks, or an Error.
std::vector<std::unique_ptr<PairLink>> connect_all(const AddressFile& addresses,
                                                   const WorkerHello& hello, int gpu) {
  std::vector<std::unique_ptr<PairLink>> links;
  for (const PairAddress& address : addresses.ranks)
    links.push_back(
        connect_pair(address, addresses.token, hello, kConnect, hello.gpu != 0 ? gpu_of(gpu) : 0));
  return links;
}

// With what its user may have overlooked.
[[noreturn]] void fail_to_join(const Error& error, const std::filesystem::path& file) {
  std::error_code ignored;
  if (error.code() == ExitCode::missing_input && !std::filesystem::exists(file, ignored))
    fail(error.code(), "{}: the run is over, has not begun or lets no workers in", error.what());
  if (error.code() == ExitCode::io)
    fail(error.code(), "{}: the run that wrote {} is over or cannot be reached from here",
         error.what(), file.string());
  throw Error(error);
}

// Tries again while the job may still be starting, or starting anew.
std::vector<std::unique_ptr<PairLink>> join(const WorkerOptions& options, const WorkerHello& hello,
                                            Clock::time_point until) {
  for (bool first = true;; first = false) {
    bool is_address_file = false;  // written whole or not at all: another one will not become one
    try {
      const AddressFile addresses = read_address_file(options.connect);
      is_address_file = true;
      return connect_all(addresses, hello, options.gpu);
    } catch (const Error& e) {
      const bool wrong_file = !is_address_file && e.code() == ExitCode::bad_data;
      if (wrong_file || e.code() == ExitCode::usage || Clock::now() >= until || stop_requested())
        fail_to_join(e, options.connect);
      if (first)
        log_info("waiting up to {:g} s for the run of {}", options.wait_s,
                 options.connect.string());
      log_debug("{}; trying again", e.what());
    }
    std::this_thread::sleep_for(kAgain);
  }
}

void say(const WorkerSummary& done) {
  const double all = done.kernel_s + done.idle_s;
  log_info("{} tasks, {:.1f} MB in, {:.1f} MB out, busy {:.1f} % of {:.1f} s", done.tasks,
           static_cast<double>(done.received_bytes) / 1e6,
           static_cast<double>(done.sent_bytes) / 1e6, all > 0 ? 100 * done.kernel_s / all : 0,
           all);
  for (const std::string& why : done.broken) log_warning("{}", why);
}

// Joins and computes until that is over.
WorkerSummary serve(const WorkerOptions& options, const WorkerHello& hello, StreamRef stream) {
  const auto wait =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.wait_s));
  std::vector<std::unique_ptr<PairLink>> links = join(options, hello, Clock::now() + wait);
  log_info("joined {} rank{} through {}", links.size(), links.size() == 1 ? "" : "s",
           options.connect.string());
  WorkerRules rules;
  rules.keep_bytes = static_cast<size_t>(options.keep_mb) * 1'000'000;
  const WorkerSummary done = run_worker(std::move(links), rules, stop_requested(), stream);
  say(done);
  return done;
}

}  // namespace

int run_worker_command(const WorkerOptions& options) {
  catch_stop_signals();
  const DeviceChoice device = choose_device(options.device);
  ThreadPool pool(choose_threads(options.threads));
  WorkDevice work(device, options.gpu, pool);
  const WorkerHello hello{attention_numerics(device), host_name(), ::getpid(), random_number(),
                          nccl_gpu_of(device, options.gpu)};
  WorkerSummary done = serve(options, hello, work.stream());
  // Nobody said goodbye: the run died and may be resumed, or took this worker for dead.
  while (done.goodbyes == 0 && !done.broken.empty() && !stop_requested()) {
    try {
      done = serve(options, hello, work.stream());
    } catch (const Error& e) {
      log_info("{}", e.what());
      break;
    }
  }
  return static_cast<int>(ExitCode::done);
}

}  // namespace longtake
