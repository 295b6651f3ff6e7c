#include "parallel/attention/attention_call.h"

#include <cstring>

#include "kernels/base/error.h"
#include "kernels/copy.h"

namespace longtake {

namespace {

// One head's rows, [rows, 1, head_dim].
template <class View>
View head_of(View x, int64_t head) {
  const int64_t rows = x.dim(0), d = x.dim(2);
  return x.reshape({rows, x.dim(1) * d}).columns(head * d, (head + 1) * d).reshape({rows, 1, d});
}

size_t row_bytes(ConstTensor x) {
  return static_cast<size_t>(x.dim(2)) * size_bytes(x.dtype);
}

std::byte* pack_rows(ConstTensor from, std::byte* to) {
  const size_t bytes = row_bytes(from);
  const size_t stride = static_cast<size_t>(from.row_stride) * size_bytes(from.dtype);
  const auto* row = static_cast<const std::byte*>(from.data);
  for (int64_t i = 0; i < from.dim(0); ++i, row += stride, to += bytes) std::memcpy(to, row, bytes);
  return to;
}

void unpack_rows(const std::byte* from, Tensor to) {
  const size_t bytes = row_bytes(to);
  const size_t stride = static_cast<size_t>(to.row_stride) * size_bytes(to.dtype);
  auto* row = static_cast<std::byte*>(to.data);
  for (int64_t i = 0; i < to.dim(0); ++i, row += stride, from += bytes)
    std::memcpy(row, from, bytes);
}

ConstTensor rows_of(const AttentionPiece& piece, ConstTensor x) {
  return head_of(x, piece.head).rows(piece.first_query, piece.first_query + piece.queries);
}

Tensor rows_of(const AttentionPiece& piece, Tensor x) {
  return head_of(x, piece.head).rows(piece.first_query, piece.first_query + piece.queries);
}

}  // namespace

AttentionCall::AttentionCall(int64_t id, const AttentionArgs& args, const AttentionKey& key)
    : id_(id), key_(key), segments_(args.segments.begin(), args.segments.end()), args_(args) {
  constexpr size_t kMostSegments = std::tuple_size_v<decltype(AttentionTask::segments)>;
  LT_CHECK(!args.lse && !args.bias && !args.tiles && args.segments.size() <= kMostSegments,
           "attention workers: plain attention over at most {} segments, found {}", kMostSegments,
           args.segments.size());
  args_.segments = segments_;
  for (const KeySegment& segment : segments_) {
    LT_CHECK(segment.logit_bias == 0, "attention workers: a logit bias of {}", segment.logit_bias);
    keys_ += segment.k.dim(0);
  }
  for (int64_t head = 0; head < heads(); ++head) pieces_.emplace_back(head, 0, queries());
  left_ = heads();
}

AttentionPiece& AttentionCall::cut(AttentionPiece& piece, int64_t rows) {
  LT_CHECK(0 < rows && rows < piece.queries && (piece.queries - rows) % kRows == 0,
           "{} rows cut off a piece of {}", rows, piece.queries);
  piece.queries -= rows;
  ++left_;
  AttentionPiece& rest = pieces_.emplace_back(piece.head, piece.first_query + piece.queries, rows);
  rest.lost_s = piece.lost_s;
  return rest;
}

void AttentionCall::finish(AttentionPiece& piece) {
  piece.state = AttentionPiece::State::done;
  --left_;
}

AttentionTask AttentionCall::task_of(const AttentionPiece& piece) const {
  AttentionTask task;
  task.dtype = args_.q.dtype;
  task.first_head = static_cast<uint16_t>(piece.head);
  task.heads = 1;
  task.head_dim = static_cast<uint16_t>(head_dim());
  task.first_query = static_cast<uint32_t>(piece.first_query);
  task.queries = static_cast<uint32_t>(piece.queries);
  task.block = key_.block;
  task.step = key_.step;
  task.layer = key_.layer;
  task.branch = key_.branch;
  task.scale = args_.scale;
  for (const KeySegment& segment : segments_)
    task.segments[task.segment_count++].rows = static_cast<uint32_t>(segment.k.dim(0));
  return task;
}

KeySegment AttentionCall::keys_of(int64_t head, size_t segment) const {
  return {head_of(host_ ? ConstTensor(host_->k[segment]) : segments_[segment].k, head),
          head_of(host_ ? ConstTensor(host_->v[segment]) : segments_[segment].v, head)};
}

uint64_t AttentionCall::number(int64_t head, size_t segment) {
  if (segments_[segment].k.dim(0) == 0) return 0;
  numbers_.resize(static_cast<size_t>(heads()) * segments_.size());
  uint64_t& number = numbers_[static_cast<size_t>(head) * segments_.size() + segment];
  if (number == 0) {
    const KeySegment keys = keys_of(head, segment);
    number = number_of(keys.k, keys.v);
  }
  return number;
}

uint64_t AttentionCall::sample(int64_t head, size_t segment) const {
  const KeySegment keys = keys_of(head, segment);
  const int64_t rows = keys.k.dim(0);
  return rows == 0 ? 0 : number_of(keys.k.rows(0, 1), keys.v.rows(rows - 1, rows));
}

void AttentionCall::pack(const AttentionPiece& piece, const AttentionTask& task, std::byte* payload,
                         const StreamRef* copies) const {
  if (copies) {
    const auto put = [&](ConstTensor x) {
      copy(x, Tensor(payload, x.dtype, x.shape, copies->device()), *copies);
      payload += x.bytes();
    };
    put(rows_of(piece, args_.q));
    for (const KeySegment& segment : segments_)
      put(head_of(segment.k, piece.head)), put(head_of(segment.v, piece.head));
    return copies->synchronize();
  }
  std::byte* to = pack_rows(rows_of(piece, host_ ? ConstTensor(host_->q) : args_.q), payload);
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (task.segments[i].resident) continue;
    const KeySegment keys = keys_of(piece.head, i);
    to = pack_rows(keys.v, pack_rows(keys.k, to));
  }
}

void AttentionCall::unpack(AttentionPiece& piece, const std::byte* payload,
                           const StreamRef* copies) {
  piece.through_host = !copies;
  if (copies) {
    const Tensor rows = rows_of(piece, args_.out);
    copy(ConstTensor(payload, rows.dtype, rows.shape, copies->device()), rows, *copies);
    return copies->synchronize();
  }
  unpack_rows(payload, rows_of(piece, host_ ? Tensor(host_->out) : args_.out));
}

void AttentionCall::compute(const AttentionPiece& piece, PackedKeys& packed,
                            StreamRef stream) const {
  std::vector<KeySegment> segments;
  for (const KeySegment& segment : segments_)
    segments.push_back({head_of(segment.k, piece.head), head_of(segment.v, piece.head)});
  attention({.q = rows_of(piece, args_.q),
             .segments = segments,
             .out = rows_of(piece, args_.out),
             .scale = args_.scale,
             .packed = &packed},
            stream);
}

std::vector<std::byte> AttentionCall::result(const AttentionPiece& piece, StreamRef stream) const {
  const Tensor rows = rows_of(piece, args_.out);
  OwnedTensor host;
  if (stream.on_gpu()) host = to_host(rows, stream);
  std::vector<std::byte> out(rows.bytes());
  pack_rows(host ? ConstTensor(host) : ConstTensor(rows), out.data());
  return out;
}

void AttentionCall::stage(bool host_copies, StreamRef stream) {
  if (!stream.on_gpu()) return;
  if (!host_copies) return stream.synchronize();
  HostCopy& host = host_.emplace();
  host.q = to_host(args_.q, stream);
  host.out = OwnedTensor(args_.out.dtype, args_.out.shape);
  for (const KeySegment& segment : segments_) {
    host.k.push_back(to_host(segment.k, stream));
    host.v.push_back(to_host(segment.v, stream));
  }
}

void AttentionCall::unstage(StreamRef stream) {
  if (!host_) return;
  for (const AttentionPiece& piece : pieces_)
    if (piece.worker >= 0 && piece.through_host) {
      // Rows of one head, strided on both sides: as a matrix.
      const auto matrix = [](auto x) { return x.reshape({x.dim(0), x.dim(2)}); };
      copy(matrix(ConstTensor(rows_of(piece, host_->out.view()))),
           matrix(rows_of(piece, args_.out)), stream);
    }
}

}  // namespace longtake
