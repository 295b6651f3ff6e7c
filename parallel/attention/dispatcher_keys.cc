// Which keys a worker keeps, so that they are sent once: those of a head that is cut into rows,
// while other rows of it wait, and those that come again, as the context of a finished neighbour
// does (rule `causal`). A worker gets all keys of a head, from its own memory or with the task, so
// the bits are those of a task with all of them.
#include "parallel/attention/dispatch_state.h"

namespace longtake {

// Were these keys, as far as a sample shows, those of the same place's last call?
bool AttentionDispatcher::State::come_again(AttentionCall& call, int64_t head, size_t segment) {
  const AttentionKey& key = call.key();
  auto& [last_call, last] = last_keys[{key.branch, key.layer, head, static_cast<int64_t>(segment)}];
  const uint64_t sample = call.sample(head, segment);
  const bool same = last == sample && sample != 0;
  const bool again = same && last_call != call.id();
  if (!same) last_call = call.id();
  last = sample;
  return again;
}

void AttentionDispatcher::State::number_keys(WorkerPeer& peer, AttentionCall& call,
                                             const AttentionPiece& piece, bool shared,
                                             AttentionTask& task) {
  for (size_t i = 0; i < call.segments(); ++i) {
    TaskSegment& segment = task.segments[i];
    const bool again = come_again(call, piece.head, i);
    const bool rest = piece.queries < call.queries();  // of a head that was cut before
    if (!shared && !again && !rest) continue;
    const uint64_t number = call.number(piece.head, i);
    if (number == 0) continue;
    if (peer.keys.find(number)) {
      segment.number = number;
      segment.resident = true;
    } else if (shared || again) {
      segment.number = number;
      peer.keys.put(number, {}, task.keys_bytes(i));
    }
  }
}

}  // namespace longtake
