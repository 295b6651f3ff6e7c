#include "runtime/stream/checkpoint.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel/plan/held_state.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/state_file.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

// Beside the tags of payloads.
constexpr int kVoteTag = 8, kDecisionTag = 9, kDepth = 2;
// Before anything was measured: a first state after this long.
constexpr double kFirst_s = 30;
constexpr size_t kWord = 32;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Decision {
  int32_t action = 0;
  char reason[kWord] = {};
};

template <class Message>
void send_message(SendChannel& channel, const Message& message, const char* what) {
  std::memcpy(channel.acquire(what), &message, sizeof message);
  channel.send(sizeof message);
}

template <class Message>
Message receive_message(ReceiveChannel& channel, const char* what) {
  Message out;
  std::memcpy(&out, channel.receive(sizeof out, what), sizeof out);
  channel.release();
  return out;
}

void copy_word(const std::string& from, char* to) {
  std::memcpy(to, from.data(), std::min(from.size(), kWord - 1));
}

}  // namespace

// This rank's part of a state, written by a thread of its own.
struct Checkpointer::Part {
  int64_t sweep = 0;
  StateFile file;
  double seconds = 0;
  std::atomic<bool> done = false;
  std::exception_ptr error;
  std::thread thread;
  ~Part() {
    if (thread.joinable()) thread.join();
  }

  void write(const fs::path& run, const QueueState& state) {
    const Clock::time_point start = Clock::now();
    check_free_space(run, state.bytes());
    TemporaryFile temporary(run / file.file);
    write_state_file(temporary.path(), state);
    {
      const FileDigest written = digest(OpenFile(temporary.path(), O_RDONLY, ExitCode::io));
      file.bytes = written.bytes;
      file.sha256 = written.sha256;
    }
    temporary.publish();
    seconds = seconds_since(start);
  }
};

// Of the committer: channels to and from every other rank; of the others: to and from it.
struct Checkpointer::Links {
  std::vector<std::unique_ptr<SendChannel>> send;
  std::vector<std::unique_ptr<ReceiveChannel>> receive;  // by rank; of the committer itself: none
};

Checkpointer::Checkpointer(const CheckpointSpec& spec, Transport* transport, Snapshot snapshot,
                           Drain drain, StopReason stop_reason, Commit commit)
    : spec_(spec),
      snapshot_(std::move(snapshot)),
      drain_(std::move(drain)),
      stop_reason_(std::move(stop_reason)),
      commit_(std::move(commit)),
      links_(std::make_unique<Links>()),
      last_checkpoint_(Clock::now()),
      last_sweep_(Clock::now()),
      checkpoint_blocks_(finished_before(spec.plan, spec.begin)) {
  const Mesh& mesh = spec.plan.mesh;
  if (!spec.enabled || mesh.ranks() == 1) return;
  const auto open = [&](int64_t peer, int send_tag, size_t send_bytes, int receive_tag,
                        size_t receive_bytes) {
    const int to = static_cast<int>(peer);
    links_->send.push_back(transport->open_send(to, send_tag, send_bytes, kDepth));
    links_->receive.push_back(transport->open_receive(to, receive_tag, receive_bytes, kDepth));
  };
  const int64_t committer = mesh.rank({mesh.stages - 1}, {0}).value;
  if (!is_committer()) open(committer, kVoteTag, sizeof(Vote), kDecisionTag, sizeof(Decision));
  for (int64_t rank = 0; is_committer() && rank < mesh.ranks(); ++rank)
    if (rank != committer) open(rank, kDecisionTag, sizeof(Decision), kVoteTag, sizeof(Vote));
}

Checkpointer::~Checkpointer() = default;

bool Checkpointer::is_committer() const {
  const Mesh& mesh = spec_.plan.mesh;
  return spec_.rank == mesh.rank({mesh.stages - 1}, {0});
}

bool Checkpointer::after_sweep(int64_t sweep) {
  if (!spec_.enabled || sweep == PlanMaker(spec_.plan).sweeps()) return true;
  sweep_s_ = seconds_since(last_sweep_);
  last_sweep_ = Clock::now();
  const bool go_on = between_sweeps(sweep);
  seconds_ += seconds_since(last_sweep_);
  return go_on;
}

bool Checkpointer::between_sweeps(int64_t sweep) {
  const Action action = exchange(sweep);
  if (action == Action::go_on) return true;
  if (action == Action::stop) {
    drain_(sweep);  // a rank that is behind sends no votes before its last messages have left
    // What an earlier checkpoint left to do.
    if (part_) part_->thread.join();
    exchange_votes();
  }
  begin_part(sweep);
  if (action == Action::checkpoint) return true;
  part_->thread.join();
  exchange_votes();
  for (const auto& channel : links_->send) channel->flush("the last votes");
  return false;
}

// Votes of this sweep to the committer; what all do now, as it decided one sweep ago.
Checkpointer::Action Checkpointer::exchange(int64_t sweep) {
  const bool first = sweep == spec_.begin + 1;
  exchange_votes();
  if (is_committer()) {
    const Action now = action_;
    if (now == Action::stop) return now;
    action_ = decide(sweep + 1, now != Action::go_on);
    Decision decision{static_cast<int32_t>(action_), {}};
    copy_word(reason_, decision.reason);
    if (sweep + 1 != PlanMaker(spec_.plan).sweeps())
      for (const auto& channel : links_->send)
        send_message(*channel, decision, "a decision about a checkpoint");
    return now;
  }
  if (first) return Action::go_on;
  const auto decision =
      receive_message<Decision>(*links_->receive[0], "recv of a decision about a checkpoint");
  if (decision.action == static_cast<int32_t>(Action::stop)) reason_ = decision.reason;
  return static_cast<Action>(decision.action);
}

void Checkpointer::exchange_votes() {
  const Vote mine = vote();
  if (!is_committer()) return send_message(*links_->send[0], mine, "a vote about a checkpoint");
  std::vector<Vote> votes;
  for (const auto& channel : links_->receive)
    votes.push_back(receive_message<Vote>(*channel, "recv of a vote about a checkpoint"));
  votes.insert(votes.begin() + spec_.rank.value, mine);
  take_votes(votes);
}

Checkpointer::Vote Checkpointer::vote() {
  Vote out;
  // Decided now, the run stops a sweep later; decided after the next sweep, two sweeps from now.
  const std::string reason = stop_reason_ ? stop_reason_(2 * sweep_s_ + 2 * cost_s_) : "";
  copy_word(reason, out.reason);
  if (!part_ || !part_->done.load(std::memory_order_acquire)) return out;
  if (part_->thread.joinable()) part_->thread.join();
  if (part_->error) std::rethrow_exception(part_->error);
  out.settled_sweep = part_->sweep;
  out.bytes = part_->file.bytes;
  out.cost_s = part_->seconds;
  std::memcpy(out.sha256, part_->file.sha256.data(), sizeof out.sha256);
  write_s_ += part_->seconds;
  state_bytes_ = part_->file.bytes;
  cost_s_ = part_->seconds;
  part_.reset();
  return out;
}

void Checkpointer::take_votes(const std::vector<Vote>& votes) {
  for (size_t rank = 0; rank < votes.size(); ++rank) {
    const Vote& v = votes[rank];
    if (v.reason[0] != 0 && wants_stop_.empty()) wants_stop_ = v.reason;
    if (v.settled_sweep < 0) continue;
    LT_CHECK(open_ && open_->sweep == v.settled_sweep, "rank {} wrote a state before sweep {}",
             rank, v.settled_sweep);
    open_->files[rank].bytes = v.bytes;
    open_->files[rank].sha256.assign(v.sha256, sizeof v.sha256);
    cost_s_ = std::max(cost_s_, v.cost_s);
    ++settled_;
  }
  if (!open_ || settled_ < spec_.plan.mesh.ranks()) return;
  commit_(std::move(*open_));
  open_.reset();
  ++checkpoints_;
}

// busy: a checkpoint begins right now.
Checkpointer::Action Checkpointer::decide(int64_t next_sweep, bool busy) {
  if (next_sweep == PlanMaker(spec_.plan).sweeps()) return Action::go_on;
  if (!wants_stop_.empty()) {
    reason_ = wants_stop_;
    return Action::stop;
  }
  if (busy || open_) return Action::go_on;
  const int64_t finished = finished_before(spec_.plan, next_sweep);
  const double elapsed = seconds_since(last_checkpoint_);
  const bool due = spec_.every_blocks > 0
                       ? finished - checkpoint_blocks_ >= spec_.every_blocks
                       : elapsed >= (cost_s_ > 0 ? cost_s_ / spec_.share : kFirst_s);
  return due ? Action::checkpoint : Action::go_on;
}

void Checkpointer::begin_part(int64_t sweep) {
  LT_CHECK(!part_, "two states at once");
  const auto file = [&](int64_t rank) { return state_file_name(spec_.epoch, sweep, rank); };
  if (is_committer()) {
    open_.emplace();
    open_->sweep = sweep;
    for (int64_t rank = 0; rank < spec_.plan.mesh.ranks(); ++rank)
      open_->files.push_back({file(rank), 0, ""});
    settled_ = 0;
    checkpoint_blocks_ = finished_before(spec_.plan, sweep);
    last_checkpoint_ = Clock::now();
  }
  part_ = std::make_unique<Part>();
  part_->sweep = sweep;
  part_->file.file = file(spec_.rank.value);
  part_->thread = std::thread([part = part_.get(), run = spec_.run, state = snapshot_(sweep)] {
    try {
      part->write(run, state);
    } catch (...) {
      part->error = std::current_exception();
    }
    part->done.store(true, std::memory_order_release);
  });
}

void Checkpointer::finish() {
  if (!part_) return;
  part_->thread.join();
  if (part_->error) std::rethrow_exception(part_->error);
  std::error_code ignored;  // it is swept when the run is opened again
  fs::remove(spec_.run / part_->file.file, ignored);
  part_.reset();
}

}  // namespace longtake
