// What the rank's own thread and the dispatcher's thread share, under one mutex.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>

#include "kernels/base/thread_pool.h"
#include "kernels/cuda/stream.h"
#include "parallel/attention/attention_call.h"
#include "parallel/attention/dispatcher.h"
#include "parallel/attention/lru.h"
#include "parallel/attention/quota.h"

namespace longtake {

// A piece that a worker and the rank both compute. Whoever is second compares.
struct Trial {
  explicit Trial(uint64_t id) : task(id) {}

  uint64_t task;
  std::optional<std::vector<std::byte>> expected, answer;
};

struct WorkerPeer {
  WorkerPeer(int64_t number, std::unique_ptr<PairLink> to, const HealthRules& rules, double now)
      : index(number), link(std::move(to)), health(rules, now), slots(link->terms().slots) {
    counts.name = link->peer();
    counts.shared_memory = link->shared_memory();
    slots_on_gpu = link->device().type == DeviceType::cuda;
  }

  int64_t index;
  std::unique_ptr<PairLink> link;  // of the dispatcher's thread alone; null once it is lost
  WorkerHealth health;
  WorkerReport counts;
  struct Slot {
    bool used = false;
    uint64_t task = 0;
    AttentionTask asked;
    double work = 0, sent_s = 0;
    AttentionCall* call = nullptr;  // null: nobody waits for it any more
    AttentionPiece* piece = nullptr;
  };
  std::vector<Slot> slots;
  std::optional<Trial> trial;
  MeasuredWorker measured;
  bool slots_on_gpu = false;
  int64_t next_probe = 0;  // at so many calls, if it gets nothing to do until then
  double next_heartbeat_s = 0;
  bool available = true;
  // Numbers of the keys that it has, forgotten here as they are there. Of the dispatcher's thread.
  Lru<uint64_t, std::monostate> keys;

  double work_there() const;
  int free_slot() const;  // -1: none
};

struct AttentionDispatcher::State {
  using Lock = std::unique_lock<std::mutex>;

  DispatchRules rules;
  std::unique_ptr<PairListener> door;  // of the dispatcher's thread
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::list<AttentionCall> calls;  // under way, in order
  std::list<WorkerPeer> peers;     // in order of joining, the lost ones too
  std::vector<std::unique_ptr<PairLink>> joining;
  int64_t next_call = 0;
  uint64_t next_task = 1;
  DispatchReport totals;
  double work_away = 0, work_hedged = 0;
  Pace pace_here;                 // of the rank's own pieces
  double engaged_s = 0;           // the rank spent in finish() so far
  std::array<double, 2> own_s{};  // it works by itself between start() and finish(), by branch
  Quota quota;
  int64_t next_plan = 0;                                  // at so many calls
  std::array<std::optional<MeasuredCall>, 2> last_calls;  // by branch
  bool closing = false;
  int wake_fd = -1;
  std::thread thread;
  // Copies within the GPU for pairs whose slots lie there; made when there is one. Of that thread.
  struct GpuCopies {
    explicit GpuCopies(int gpu) : stream(gpu) {}
    ThreadPool pool{1};
    cuda::Stream stream;
    StreamRef ref{stream, pool};
  };
  std::unique_ptr<GpuCopies> copies;
  // A sample of the keys of each (branch, layer, head, segment) in its last call. Of that thread.
  std::map<std::array<int64_t, 4>, std::pair<int64_t, uint64_t>> last_keys;  // call, sample

  // Of the rank's thread alone: keys of the head that it last computed a piece of.
  PackedKeys packed_here;
  std::pair<int64_t, int64_t> packed_of{-1, -1};  // call, head

  // The rank's thread.
  void await(AttentionCall& call, double now);
  AttentionPiece* next_here(AttentionCall& call, AttentionCall*& of, int threads);
  AttentionPiece* late_piece(AttentionCall& call, double now);
  void compute_here(AttentionCall& call, AttentionPiece& piece, StreamRef stream, Lock& lock);
  double wait_for(AttentionCall& call, Lock& lock);

  // The dispatcher's thread.
  void run();
  void serve_once();
  void admit(std::unique_ptr<PairLink> link, double now);
  void serve(WorkerPeer& peer);
  void on_message(WorkerPeer& peer, const AttentionAnswer& answer);
  void on_message(WorkerPeer& peer, const Heartbeat& heartbeat);
  void on_message(WorkerPeer& peer, const Goodbye&);
  void on_message(WorkerPeer& peer, const AttentionTask&);
  void on_message(WorkerPeer& peer, const NcclOffer&);
  void on_message(WorkerPeer& peer, const NcclVerdict&);
  void replan();
  void take_measure(WorkerPeer& peer, const WorkerPeer::Slot& slot, const AttentionAnswer& answer,
                    double taken_s);
  AttentionPiece* first_waiting(AttentionCall& call, const WorkerPeer& peer);
  bool trial_due(WorkerPeer& peer);
  bool dispatch(WorkerPeer& peer);
  bool fits(WorkerPeer& peer, AttentionCall& call, AttentionPiece& piece);
  double spare_s(const AttentionCall& call) const;
  bool come_again(AttentionCall& call, int64_t head, size_t segment);
  void number_keys(WorkerPeer& peer, AttentionCall& call, const AttentionPiece& piece, bool shared,
                   AttentionTask& task);
  void send(WorkerPeer& peer, int slot, AttentionCall& call, AttentionPiece& piece, bool trial,
            Lock& lock);
  void take_answer(WorkerPeer& peer, WorkerPeer::Slot& slot, int number, Lock& lock);
  void dismiss(WorkerPeer& peer);
  void say_goodbye();

  const StreamRef* copies_for(const WorkerPeer& peer);  // null: its slots lie on the host

  // Either, with the lock held.
  bool anybody() const;
  void lose(WorkerPeer& peer, const std::string& reason);
  void give_back(AttentionPiece& piece, double lost_s);
  void under_way(AttentionPiece& piece);  // again, if it was lost
  void compare(WorkerPeer& peer);
  void wake() const;
  static double now();
};

}  // namespace longtake
