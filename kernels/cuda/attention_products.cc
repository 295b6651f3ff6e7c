#include "kernels/cuda/attention_products.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "kernels/cuda/attention_products_start.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm.h"

namespace longtake::cuda {

namespace {

constexpr int kScratchSlot = 5;  // of the stream

// Rows of weights and of V^T are this long, zeros behind the keys: multiples of 16 bytes, and k of
// the second product one of 8.
int64_t padded(int64_t keys) {
  return (keys + 7) / 8 * 8;
}

const KeySegment& with_keys(const AttentionArgs& args) {
  for (const KeySegment& segment : args.segments)
    if (segment.k.dim(0) > 0) return segment;
  fail(ExitCode::error, "attention by products: expected keys, found none");
}

// In one piece: V^T [heads * dim, pitch], logits [part, pitch] and in bf16 weights [part, pitch].
struct Work {
  int64_t pitch, part;
  void *values, *weights;
  float* logits;

  Work(const AttentionArgs& args, int64_t keys, int64_t logits_bytes, Stream& stream) {
    const int64_t size = static_cast<int64_t>(size_bytes(args.q.dtype));
    const auto round_up = [](int64_t bytes) { return (bytes + 255) / 256 * 256; };
    pitch = padded(keys);
    part = std::clamp<int64_t>(logits_bytes / (pitch * 4), 1, args.q.dim(0));
    const int64_t value_bytes = round_up(args.q.dim(1) * args.q.dim(2) * pitch * size);
    const int64_t logit_bytes = round_up(part * pitch * 4);
    const bool half = args.q.dtype == DType::bf16;
    const int64_t bytes = value_bytes + logit_bytes + (half ? part * pitch * size : 0);
    auto* data = static_cast<char*>(stream.scratch(static_cast<size_t>(bytes), kScratchSlot));
    values = data;
    logits = reinterpret_cast<float*>(data + value_bytes);
    weights = half ? data + value_bytes + logit_bytes : data + value_bytes;
  }
};

const void* at(const ConstTensor& x, int64_t row, int64_t head) {
  const int64_t offset = row * x.row_stride + head * x.dim(2);
  return static_cast<const char*>(x.data) + offset * static_cast<int64_t>(size_bytes(x.dtype));
}

// Queries [first, first + rows) of one head.
void attend(const AttentionArgs& args, const KeySegment& segment, int64_t head, int64_t first,
            int64_t rows, const Work& work, Stream& stream) {
  const int64_t dim = args.q.dim(2), keys = segment.k.dim(0);
  const DType type = args.q.dtype;
  GemmArgs g;
  g.m = rows;
  g.n = keys;
  g.k = dim;
  g.a = at(args.q, first, head);
  g.lda = args.q.row_stride;
  g.w = at(segment.k, 0, head);
  g.ldw = segment.k.row_stride;
  g.in = type;
  g.d = work.logits;
  g.ldd = work.pitch;
  g.out = DType::f32;
  stream.gemm().run(g);

  float* lse = args.lse ? args.lse.as<float>() + head * args.lse.row_stride + first : nullptr;
  start(SoftmaxRowsArgs{work.logits, work.weights, lse, rows, keys, work.pitch, args.scale}, type,
        stream.handle());
  LT_CUDA(cudaGetLastError());

  g.n = dim;
  g.k = work.pitch;
  g.a = work.weights;
  g.lda = work.pitch;
  g.w = static_cast<const char*>(work.values) +
        head * dim * work.pitch * static_cast<int64_t>(size_bytes(type));
  g.ldw = work.pitch;
  g.d = const_cast<void*>(at(args.out, first, head));
  g.ldd = args.out.row_stride;
  g.out = type;
  stream.gemm().run(g);
}

}  // namespace

std::string products_obstacle(const AttentionArgs& args) {
  if (args.bias || args.tiles) return "expected no bias and no tiles";
  int count = 0;
  for (const KeySegment& segment : args.segments) {
    if (segment.k.dim(0) == 0) continue;
    if (segment.logit_bias != 0) return "expected a segment without a bias";
    ++count;
  }
  return count == 1 ? "" : fmt::format("expected one segment with keys, found {}", count);
}

void attention_by_products(const AttentionArgs& args, Stream& stream, int64_t logits_bytes) {
  const KeySegment& segment = with_keys(args);
  const int64_t queries = args.q.dim(0), heads = args.q.dim(1), dim = args.q.dim(2);
  if (queries == 0) return;
  const Work work(args, segment.k.dim(0), logits_bytes, stream);
  start(TransposeArgs{segment.v.data, work.values, segment.v.dim(0), heads * dim,
                      segment.v.row_stride, work.pitch},
        args.q.dtype, stream.handle());
  LT_CUDA(cudaGetLastError());
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t first = 0; first < queries; first += work.part)
      attend(args, segment, head, first, std::min(work.part, queries - first), work, stream);
}

}  // namespace longtake::cuda
