#include "kernels/cpu/conv.h"

#include <algorithm>

#include "kernels/cpu/onednn.h"

namespace longtake {

size_t cpu::PackedConv::bytes() const {
  const std::lock_guard lock(mutex);
  size_t total = 0;
  for (const Tap& tap : taps)
    for (const auto& [layout, buffer] : tap.layouts) total += buffer.bytes();
  return total;
}

// Layouts are few; once the first real one is there, the plain one is let go.
const void* cpu::PackedConv::in_layout(size_t tap, int layout) {
  const std::lock_guard lock(mutex);
  auto& [known, plain_in_use] = taps[tap];
  for (const auto& [at, buffer] : known) {
    if (at != layout) continue;
    plain_in_use |= at == plain_layout;
    return buffer.data();
  }
  Buffer packed(cpu::Conv::packed_bytes(layout));
  cpu::Conv::repack(known.front().first, known.front().second.data(), layout, packed.data());
  if (known.front().first == plain_layout && !plain_in_use) known.clear();
  known.emplace_back(layout, std::move(packed));
  return known.back().second.data();
}

namespace cpu {

namespace {

// Strips depend on shapes alone. Half a megabyte of output stays in a level-2 cache while the taps
// are added up; at least 8 strips keep several threads busy when the frame is tall enough for that.
constexpr int64_t kStripFloats = 128 * 1024;
constexpr int64_t kWantedStrips = 8;
constexpr int64_t kLeastRows = 4;

int64_t strip_rows(int64_t rows, int64_t columns, int64_t channels) {
  const int64_t by_cache = kStripFloats / std::max<int64_t>(1, columns * channels);
  const int64_t by_threads = (rows + kWantedStrips - 1) / kWantedStrips;
  return std::clamp<int64_t>(std::min(by_cache, by_threads), std::min(rows, kLeastRows), rows);
}

ConvShape shape_of(const ConvWeights& w, int64_t in_columns, Padding p) {
  ConvShape s{};
  s.in_channels = w.in();
  s.out_channels = w.out();
  s.in_columns = in_columns;
  s.kernel_rows = w.kernel_rows();
  s.kernel_columns = w.kernel_columns();
  s.stride = w.stride();
  s.pad_left = p.left;
  s.pad_right = p.right;
  return s;
}

}  // namespace

std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, int64_t stride,
                                               StreamRef stream) {
  auto packed = std::make_unique<PackedConv>();
  const int64_t out = weight.dim(0), in = weight.dim(1), taps = weight.dim(2);
  const int64_t plane = weight.dim(3) * weight.dim(4);
  ConvShape shape{};
  shape.in_channels = in;
  shape.out_channels = out;
  shape.kernel_rows = weight.dim(3);
  shape.kernel_columns = weight.dim(4);
  shape.stride = stride;
  packed->taps.resize(static_cast<size_t>(taps));
  packed->plain_layout = Conv::plain_layout(shape);
  stream.pool().parallel_for(taps, [&](int64_t tap, int) {
    std::vector<float> one(static_cast<size_t>(out * in * plane));
    for (int64_t i = 0; i < out * in; ++i)
      std::copy_n(weight.as<float>() + (i * taps + tap) * plane, plane, one.data() + i * plane);
    Buffer plain(one.size() * sizeof(float));
    std::copy(one.begin(), one.end(), static_cast<float*>(plain.data()));
    packed->taps[static_cast<size_t>(tap)].layouts.emplace_back(packed->plain_layout,
                                                                std::move(plain));
  });
  return packed;
}

void conv(std::span<const ConstTensor> frames, const ConvWeights& w, Padding p, bool accumulate,
          Tensor y, StreamRef stream) {
  const int64_t in_rows = frames.back().dim(0), in_columns = frames.back().dim(1);
  const int64_t rows = y.dim(0), strip = strip_rows(rows, y.dim(1), y.dim(2));
  stream.pool().parallel_for((rows + strip - 1) / strip, [&](int64_t task, int worker) {
    const int64_t begin = task * strip, end = std::min(rows, begin + strip);
    // Input rows of this strip; what lies outside the frame is padding.
    const int64_t first = begin * w.stride() - p.top;
    const int64_t last = (end - 1) * w.stride() - p.top + w.kernel_rows();
    ConvShape shape = shape_of(w, in_columns, p);
    shape.pad_top = std::max<int64_t>(0, -first);
    shape.pad_bottom = std::max<int64_t>(0, last - in_rows);
    const int64_t from = first + shape.pad_top;
    shape.in_rows = last - shape.pad_bottom - from;
    bool added = accumulate, biased = false;
    // Newest first: it is always there and brings the bias.
    for (size_t tap = frames.size(); tap-- > 0;) {
      if (!frames[tap]) continue;
      shape.accumulate = added;
      shape.bias = !biased && w.bias();
      const auto kernel = Conv::get(shape);
      kernel->run(frames[tap].as<float>() + from * in_columns * w.in(),
                  static_cast<PackedConv&>(w.packed()).in_layout(tap, kernel->layout()),
                  shape.bias ? w.bias() : nullptr, y.as<float>() + begin * y.dim(1) * y.dim(2),
                  stream.pool(), worker);
      added = biased = true;
    }
  });
}

}  // namespace cpu
}  // namespace longtake
