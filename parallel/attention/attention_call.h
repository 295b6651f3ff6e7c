// One self-attention of a visit, cut into pieces (a head, some query rows) that the rank itself and
// its workers take from both ends.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "parallel/attention/exchange.h"
#include "parallel/attention/task.h"

namespace longtake {

struct AttentionPiece {
  enum class State : uint8_t {
    waiting,   // for anybody
    sending,   // being copied to a worker
    sent,      // at a worker
    arriving,  // its answer is being copied
    here,      // the rank computes it
    done
  };
  AttentionPiece(int64_t of_head, int64_t from_query, int64_t query_rows)
      : head(of_head), first_query(from_query), queries(query_rows) {}

  int64_t head, first_query, queries;
  State state = State::waiting;
  bool only_here = false;  // a worker computes it as well, on trial
  int64_t trial = -1;      // of which worker: its answer is compared
  int64_t worker = -1;     // who has it
  uint64_t task = 0;
  bool through_host = false;  // its answer lies in the call's host copy
  double sent_s = 0, deadline_s = 0;
  std::optional<double> lost_s;  // when the worker that had it was lost
};

// Its tensors outlive it. Not for two threads at once, but for pack() and unpack() of one piece
// while others are changed.
class AttentionCall {
 public:
  // Query rows of a piece are multiples of this, but for the last one of a head.
  static constexpr int64_t kRows = 128;

  AttentionCall(int64_t id, const AttentionArgs& args, const AttentionKey& key);

  int64_t id() const { return id_; }
  const AttentionKey& key() const { return key_; }
  int64_t heads() const { return args_.q.dim(1); }
  int64_t head_dim() const { return args_.q.dim(2); }
  int64_t queries() const { return args_.q.dim(0); }
  int64_t keys() const { return keys_; }
  DType dtype() const { return args_.q.dtype; }
  // Of a piece: query rows x keys x head size.
  double work(int64_t queries) const {
    return static_cast<double>(queries) * static_cast<double>(keys_ * head_dim());
  }

  std::deque<AttentionPiece>& pieces() { return pieces_; }
  // Cuts off the last rows of a waiting piece as a piece of their own, which follows it.
  AttentionPiece& cut(AttentionPiece& piece, int64_t rows);
  int64_t left() const { return left_; }
  void finish(AttentionPiece& piece);
  // How many pieces another thread copies to or from now: the call may not end before.
  int64_t copying = 0;
  bool offered = false;  // to workers
  bool awaited = false;  // the rank needs the result now
  double started_s = 0;  // when it was offered
  double engaged_s = 0;  // State::engaged_s then

  // With all keys, none of them numbered.
  AttentionTask task_of(const AttentionPiece& piece) const;
  size_t segments() const { return segments_.size(); }
  // Of a head's keys in a segment; computed once. 0: there are none.
  uint64_t number(int64_t head, size_t segment);
  // Of few of them: others have other keys.
  uint64_t sample(int64_t head, size_t segment) const;
  // Without the resident segments of the task. `payload` lies on the host, or on the GPU of
  // `copies`; then the copies are done when the call returns.
  void pack(const AttentionPiece& piece, const AttentionTask& task, std::byte* payload,
            const StreamRef* copies = nullptr) const;
  void unpack(AttentionPiece& piece, const std::byte* payload, const StreamRef* copies = nullptr);
  // The rank's own way. `packed` is empty or filled by another piece of this head.
  void compute(const AttentionPiece& piece, PackedKeys& packed, StreamRef stream) const;
  // The result's rows of a piece, without gaps.
  std::vector<std::byte> result(const AttentionPiece& piece, StreamRef stream) const;

  // For tensors on a GPU: host copies of the inputs are made and used by pack, and results that
  // came from workers through the host go to the GPU. Without host copies, only workers whose
  // payloads lie on the GPU can be asked.
  void stage(bool host_copies, StreamRef stream);
  void unstage(StreamRef stream);
  bool readable_on_host() const { return host_ || args_.q.device.type == DeviceType::cpu; }

 private:
  int64_t id_;
  AttentionKey key_;
  std::vector<KeySegment> segments_;
  AttentionArgs args_;  // its segments are segments_
  int64_t keys_ = 0, left_ = 0;
  std::deque<AttentionPiece> pieces_;
  std::vector<uint64_t> numbers_;  // [heads][segments]; 0: not yet known
  struct HostCopy {
    OwnedTensor q, out;
    std::vector<OwnedTensor> k, v;
  };
  std::optional<HostCopy> host_;

  KeySegment keys_of(int64_t head, size_t segment) const;  // where pack() reads them
};

}  // namespace longtake
