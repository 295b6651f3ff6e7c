#include "launch/rank_workers.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "launch/input_digest.h"
#include "launch/log.h"
#include "launch/report.h"
#include "launch/settings.h"
#include "launch/work_device.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

constexpr uint16_t kSlots = 3;  // one is computed, one waits, one is on its way

// Bytes of the largest piece that a worker may be asked for: one head, all rows of a block.
PairTerms terms_of(const Job& job) {
  const BlockLayout& layout = job.plan.layout;
  const auto& patch = job.folder.transformer_config.patch;
  const int64_t frame = (job.height / patch[1]) * (job.width / patch[2]);
  // Block 0 has that many own frames, and a latent prefix goes through as tokens.
  const int64_t queries = (layout.block_frames + layout.context_frames) * frame;
  const int64_t keys = (layout.block_frames + 2 * layout.context_frames) * frame;
  const int64_t row =
      job.folder.transformer_config.head_dim * static_cast<int64_t>(size_bytes(job.compute));
  PairTerms terms;
  terms.epoch = 1;
  terms.slots = kSlots;
  terms.task_bytes = static_cast<uint64_t>((queries + 2 * keys) * row);
  terms.answer_bytes =
      static_cast<uint64_t>(queries * row) + static_cast<uint64_t>(queries) * sizeof(float);
  return terms;
}

std::string hex(const WorkerToken& token) {
  std::string out;
  for (const std::byte b : token) out += fmt::format("{:02x}", static_cast<unsigned>(b));
  return out;
}

WorkerToken token_of(const std::string& text) {
  WorkerToken token{};
  for (size_t i = 0; i < token.size(); ++i)
    token[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return token;
}

// This program again, with no signal blocked. Of the open files it gets the standard ones only:
// with MPI's sockets in its hands the others would not see at once that this rank is gone.
pid_t spawn(std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none;
  sigemptyset(&none);
  LT_CHECK(::posix_spawn_file_actions_init(&actions) == 0 &&
               ::posix_spawnattr_init(&attributes) == 0 &&
               ::posix_spawnattr_setsigmask(&attributes, &none) == 0 &&
               ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK) == 0,
           "the attributes of an attention worker's process are refused");
  int error = ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  if (error == 0)
    error = ::posix_spawn(&child, "/proc/self/exe", &actions, &attributes, argv.data(), environ);
  (void)::posix_spawnattr_destroy(&attributes);
  (void)::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    fail(ExitCode::error, "an attention worker cannot be started: {}", std::strerror(error));
  return child;
}

}  // namespace

bool wants_workers(const RunConfig& config, int64_t ranks) {
  return config.parallel.workers.value_or(1) > 0 || config.parallel.accept_workers ||
         (config.parallel.serve_attention && ranks > 1);
}

RankWorkers::RankWorkers(const Job& job, Comm& comm, const DispatchRules& rules, int first, int own)
    : job_(job), comm_(comm), first_(first), file_(job.config.output.run / kWorkersFile) {
  const std::string secret = comm.broadcast(comm.rank() == 0 ? hex(random_token()) : "");
  addresses_.token = token_of(secret);
  const std::string numerics = attention_numerics(job.config.device);
  // Only this host's own workers: no door to other hosts.
  const bool far = job.config.parallel.accept_workers || comm.ranks() > comm.ranks_on_node();
  const std::string host = far ? host_name() : "127.0.0.1";
  nlohmann::json mine = nlohmann::json::array();
  for (int rank = first; rank < first + own; ++rank) {
    const int on_node = own > 1 ? rank - first : comm.rank_on_node();
    const bool nccl = job.config.parallel.transport == TransportChoice::nccl &&
                      job.config.device == DeviceChoice::cuda;
    auto door =
        std::make_unique<PairListener>(addresses_.token, numerics, terms_of(job), true,
                                       far ? DoorReach::anywhere : DoorReach::host,
                                       nccl ? std::optional(gpu_of(on_node)) : std::nullopt);
    mine.push_back({{"rank", rank}, {"host", host}, {"port", door->port()}});
    doors_.push_back(std::make_unique<AttentionDispatcher>(rules, std::move(door)));
  }
  nlohmann::json all = nlohmann::json::array();
  for (const std::string& packed : comm.gather(mine.dump()))
    for (const auto& at : nlohmann::json::parse(packed)) all.push_back(at);
  for (const auto& at : nlohmann::json::parse(comm.broadcast(all.dump())))
    addresses_.ranks.push_back({at.at("rank"), at.at("host"), at.at("port")});
}

RankAttention RankWorkers::of_rank(int rank) {
  const auto own = static_cast<size_t>(rank - first_);
  return {doors_.at(own).get(), services_.empty() ? nullptr : services_.at(own).get()};
}

RankWorkers::~RankWorkers() {
  // Only after an error are there any left: no waiting then.
  for (const pid_t child : children_) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  std::error_code error;
  if (comm_.rank() == 0) fs::remove(file_, error);
}

void RankWorkers::start(int threads) {
  const auto own = static_cast<int>(doors_.size());
  if (job_.config.parallel.serve_attention && addresses_.ranks.size() > 1)
    for (int i = 0; i < own; ++i)
      services_.push_back(std::make_unique<AttentionService>(
          job_, addresses_, first_ + i, own > 1 ? i : comm_.rank_on_node(), threads));
  if (comm_.rank() != 0) return;
  write_address_file(file_, addresses_);
  const std::string count = std::to_string(threads);
  for (int64_t i = 0; i < job_.config.parallel.workers.value_or(0); ++i) {
    std::vector<std::string> words{"longtake",  "worker",
                                   "--connect", file_.string(),
                                   "--wait",    "0",
                                   "--threads", count,
                                   "--device",  find_setting("device")->get(job_.config),
                                   "--gpu",     std::to_string(comm_.ranks_on_node() + i),
                                   "--quiet"};
    children_.push_back(spawn(words));
  }
  if (job_.config.parallel.accept_workers)
    log_info("attention workers may join: longtake worker --connect {}", file_.string());
}

void RankWorkers::finish() {
  using namespace std::chrono_literals;
  for (const auto& service : services_) (void)service->finish();
  for (const auto& door : doors_) door->close();
  std::error_code error;
  if (comm_.rank() == 0) fs::remove(file_, error);
  const auto until = std::chrono::steady_clock::now() + 5s;
  for (const pid_t child : children_) {
    int status = 0;
    pid_t ended = 0;
    while ((ended = ::waitpid(child, &status, WNOHANG)) == 0 &&
           std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(5ms);
    if (ended != 0) continue;
    log_warning("attention worker {} does not end and is killed", child);
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  children_.clear();
}

}  // namespace longtake
