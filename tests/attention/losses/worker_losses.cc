// Loses attention workers, real processes behind real sockets, in every way there is and at random
// moments, while a rank goes on. No bit may change and nothing may hang.
//   worker_losses COUNT SEED
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <optional>
#include <random>
#include <string>

#include "tests/attention/worker_fixture.h"

namespace longtake::testing {
namespace {

namespace fs = std::filesystem;

// ---- the worker's process: misbehaves on request

std::atomic<bool> leave{false};
std::atomic<int> spoil{0}, slow{0}, lie{0};

extern "C" void on_request(int number) {
  if (number == SIGTERM) leave = true;
  if (number == SIGUSR1) spoil = 1;
  if (number == SIGUSR2) slow = 6;
  if (number == SIGHUP) lie = 1;
}

int be_worker(const fs::path& file) {
  for (const int number : {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP}) ::signal(number, on_request);
  const AddressFile addresses = read_address_file(file);
  const WorkerHello hello{"test", "localhost", ::getpid(), static_cast<uint64_t>(::getpid())};
  std::vector<std::unique_ptr<PairLink>> links;
  for (const PairAddress& rank : addresses.ranks)
    links.push_back(connect_pair(rank, addresses.token, hello, std::chrono::seconds(10)));
  WorkerRules rules;
  rules.heartbeat_s = 0.05;
  rules.keep_bytes = size_t{3} << 20;  // some heads: now and then keys are forgotten
  rules.before_task = [](const AttentionTask&) {
    if (slow.load() > 0 && slow.fetch_sub(1) > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
  };
  rules.before_answer = [](AttentionAnswer& answer, std::byte* payload) {
    if (answer.payload_bytes == 0) return;
    if (spoil.exchange(0) > 0) payload[answer.payload_bytes / 3] ^= std::byte{16};
    if (lie.exchange(0) > 0) answer.id += 1'000'000;  // an answer to nothing, and none to the task
  };
  ThreadPool pool(1);
  (void)run_worker(std::move(links), rules, leave, StreamRef(pool));
  return 0;
}

// ---- the rank's process

struct Fault {
  const char* name;
  int signal;
};
constexpr std::array<Fault, 6> kFaults{{{"killed", SIGKILL},
                                        {"stopped", SIGSTOP},
                                        {"left", SIGTERM},
                                        {"spoilt", SIGUSR1},
                                        {"slow", SIGUSR2},
                                        {"silent about a task", SIGHUP}}};

class Losses {
 public:
  explicit Losses(uint64_t seed) : random_(seed) {
    rules_.least_work = 0;
    rules_.weigh = false;
    rules_.health.heartbeat_s = 0.05;
    rules_.health.least_deadline_s = 0.05;
    rules_.health.first_deadline_s = 1;
    PairTerms terms = large_terms();
    auto door = std::make_unique<PairListener>(token_, "test", terms);
    write_address_file(file_, {token_, {{0, "127.0.0.1", door->port()}}});
    dispatcher_.emplace(rules_, std::move(door));
    for (int i = 0; i < 6; ++i)
      cases_.emplace_back(i % 2 ? DType::f32 : DType::bf16, 900 + 50 * i, 3, 64,
                          std::vector<int64_t>{256, 900 + 50 * i, 130}, static_cast<uint64_t>(i));
  }
  ~Losses() {
    dispatcher_->close();
    for (const pid_t worker : workers_) end(worker);
    fs::remove_all(folder_);
  }

  // False: a bit changed.
  bool lose_one() {
    keep_two();
    const size_t which = random_() % workers_.size(), kind = random_() % kFaults.size();
    const pid_t worker = workers_[which];
    const auto after = std::chrono::microseconds(random_() % 40'000);
    double at = 0;
    std::thread injector([&] {
      std::this_thread::sleep_for(after);
      at = now();
      ::kill(worker, kFaults[kind].signal);
    });
    const bool right = run_cases();
    injector.join();
    // Another round, so that what was lost at the end of the first is missed.
    const bool still = run_cases();
    ++injected_[kind];
    note(at, kind);
    if (kFaults[kind].signal != SIGUSR2) {
      end(worker);
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(which));
    }
    if (!right || !still)
      std::printf("changed bits: %s after %ld us\n", kFaults[kind].name,
                  static_cast<long>(after.count()));
    return right && still;
  }

  void print() {
    const DispatchReport report = dispatcher_->report();
    int64_t dropped = 0, late = 0;
    double sent = 0, resident = 0;
    for (const WorkerReport& worker : report.workers) {
      dropped += worker.dropped, late += worker.late;
      sent += 1e-6 * static_cast<double>(worker.sent_bytes);
      resident += 1e-6 * static_cast<double>(worker.resident_bytes);
    }
    for (size_t i = 0; i < kFaults.size(); ++i)
      std::printf("%-20s %5ld  under way again after: p50 %7.1f ms, p99 %7.1f ms (%zu pieces)\n",
                  kFaults[i].name, static_cast<long>(injected_[i]), 1e3 * share(since_[i], 0.5),
                  1e3 * share(since_[i], 0.99), since_[i].size());
    std::vector<double> noticed;
    for (const Redispatch& one : report.redispatches) noticed.push_back(one.again_s - one.lost_s);
    std::printf(
        "from noticing to under way again: p50 %.2f ms, p99 %.2f ms; %ld of %ld pieces by "
        "workers, %ld answers late, %ld dropped; %.0f MB sent, %.0f MB were there already\n",
        1e3 * share(noticed, 0.5), 1e3 * share(noticed, 0.99),
        static_cast<long>(report.pieces_away),
        static_cast<long>(report.pieces_away + report.pieces_here), static_cast<long>(late),
        static_cast<long>(dropped), sent, resident);
  }
  // Something was lost while it was in use, or the trial has shown nothing.
  bool meaningful() const { return !dispatcher_->report().redispatches.empty(); }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  static double share(std::vector<double> values, double part) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
  }

  void keep_two() {
    constexpr int kSeconds = 20;
    while (workers_.size() < 2) {
      std::string program = "worker_losses", mode = "--worker", file = file_.string();
      std::array<char*, 4> argv{program.data(), mode.data(), file.data(), nullptr};
      pid_t child = 0;
      const int error =
          ::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, argv.data(), environ);
      if (error != 0) fail(ExitCode::error, "posix_spawn: {}", error);
      workers_.push_back(child);
    }
    // They are on trial until a piece of theirs has been compared.
    for (const double until = now() + kSeconds; trusted() < 2;) {
      LT_CHECK(now() < until, "{} of 2 workers are trusted after {} s", trusted(), kSeconds);
      LT_CHECK(run_cases(), "changed bits while workers were on trial");
    }
  }
  int64_t trusted() const {
    const DispatchReport report = dispatcher_->report();
    return std::count_if(report.workers.begin(), report.workers.end(),
                         [](const WorkerReport& w) { return w.state == WorkerState::ok; });
  }

  bool run_cases() {
    const StreamRef stream = host_stream(1);
    for (AttentionCase& one : cases_) one.clear();
    std::vector<AttentionExchange::Call> calls;
    for (size_t i = 0; i < cases_.size(); ++i) {
      // The first half are layers of their own, so that their keys come again.
      const int32_t layer = i < cases_.size() / 2 ? static_cast<int32_t>(i) + 1 : 0;
      calls.push_back(
          dispatcher_->start(cases_[i].args(), {0, 0, layer, static_cast<uint8_t>(i % 2)}, stream));
      if (i > 0) dispatcher_->finish(calls[i - 1], stream);
    }
    dispatcher_->finish(calls.back(), stream);
    return std::all_of(cases_.begin(), cases_.end(),
                       [](const AttentionCase& one) { return one.right(); });
  }

  void note(double at, size_t kind) {
    const std::vector<Redispatch> all = dispatcher_->report().redispatches;
    for (; seen_ < all.size(); ++seen_)
      if (all[seen_].lost_s >= at) since_[kind].push_back(all[seen_].again_s - at);
  }

  static void end(pid_t worker) {
    ::kill(worker, SIGKILL);
    ::waitpid(worker, nullptr, 0);
  }

  static fs::path make_folder() {
    std::string name = (fs::temp_directory_path() / "worker_losses.XXXXXX").string();
    LT_CHECK(::mkdtemp(name.data()) != nullptr, "cannot make {}", name);
    return name;
  }

  std::mt19937_64 random_;
  fs::path folder_ = make_folder(), file_ = folder_ / "workers.addr";
  WorkerToken token_ = random_token();
  DispatchRules rules_;
  std::optional<AttentionDispatcher> dispatcher_;
  std::deque<AttentionCase> cases_;
  std::vector<pid_t> workers_;
  size_t seen_ = 0;
  std::array<int64_t, kFaults.size()> injected_{};
  std::array<std::vector<double>, kFaults.size()> since_;
};

int run(int count, uint64_t seed) {
  constexpr unsigned kMost_s = 60;  // a round that takes longer hangs
  Losses losses(seed);
  int changed = 0;
  for (int i = 0; i < count; ++i) {
    ::alarm(kMost_s);
    changed += losses.lose_one() ? 0 : 1;
  }
  ::alarm(0);
  losses.print();
  if (!losses.meaningful()) std::printf("no worker was lost while it had work\n");
  std::printf("%d workers lost, %d with changed bits, 0 hangs (seed %llu)\n", count, changed,
              static_cast<unsigned long long>(seed));
  return changed == 0 && losses.meaningful() ? 0 : 1;
}

}  // namespace
}  // namespace longtake::testing

int main(int argc, char** argv) {
  using namespace longtake;
  try {
    if (argc == 3 && std::string(argv[1]) == "--worker") return testing::be_worker(argv[2]);
    if (argc == 3) return testing::run(std::atoi(argv[1]), std::strtoull(argv[2], nullptr, 10));
    std::fprintf(stderr, "usage: worker_losses COUNT SEED\n");
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "worker_losses: %s\n", e.what());
    return 1;
  }
}
