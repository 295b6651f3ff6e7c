// Row-wise normalisations: each row is read twice (statistics, result), the second time from cache.
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

constexpr int kAccumulators = 4;

// sum of f(x[i]) over a row in one fixed order.
template <class T, class F>
LT_INLINE float row_sum(const T* x, int64_t dim, F f) {
  vf acc[kAccumulators] = {};
  int64_t i = 0;
  for (; i + kAccumulators * kWidth <= dim; i += kAccumulators * kWidth)
    for (int j = 0; j < kAccumulators; ++j) acc[j] += f(load(x + i + j * kWidth));
  for (; i + kWidth <= dim; i += kWidth) acc[0] += f(load(x + i));
  if (i < dim) acc[1] += keep_lanes(f(load_some(x + i, dim - i)), dim - i);
  return sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

// y[i] = f(vector of x, i) over a row.
template <class X, class Y, class F>
LT_INLINE void row_map(const X* x, Y* y, int64_t dim, F f) {
  int64_t i = 0;
  for (; i + kWidth <= dim; i += kWidth)
    store(y + i, f(load(x + i), i, [](const float* p) { return load(p); }));
  const int64_t n = dim - i;
  if (n == 0) return;
  store_some(y + i, f(load_some(x + i, n), i, [n](const float* p) { return load_some(p, n); }), n);
}

template <class Y>
void modulate_rows(const ModulateRows& r) {
  const float inverse_dim = 1.0f / static_cast<float>(r.dim);
  const float one = r.one_plus_scale ? 1.0f : 0.0f;
  for (int64_t row = r.begin; row < r.end; ++row) {
    const float* x = r.x + row * r.x_stride;
    Y* y = static_cast<Y*>(r.y) + row * r.y_stride;
    const int64_t at = r.modulation_row ? r.modulation_row[row] * r.modulation_stride : 0;
    const float* shift = r.shift + at;
    const float* scale = r.scale + at;
    const float mean = row_sum(x, r.dim, [](vf v) { return v; }) * inverse_dim;
    const float variance =
        row_sum(x, r.dim, [mean](vf v) { return (v - mean) * (v - mean); }) * inverse_dim;
    const float inverse = 1.0f / __builtin_sqrtf(variance + r.eps);
    row_map(x, y, r.dim, [=](vf v, int64_t i, auto at_lane) {
      return (v - mean) * inverse * (one + at_lane(scale + i)) + at_lane(shift + i);
    });
  }
}

// Rotates interleaved pairs in place. Pairs are handled one by one within a small buffer of floats:
// the compiler turns the loop into shuffles and multiplies.
LT_INLINE void rotate(float* x, const float* cosine, const float* sine, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine[i] - b * sine[i];
    x[2 * i + 1] = a * sine[i] + b * cosine[i];
  }
}

template <class X, class Y>
void rms_rows(const RmsRows& r) {
  constexpr int64_t kChunk = 1024;  // whole heads are rotated in this buffer when they fit
  float buffer[kChunk];
  const int64_t head_dim = r.cosine ? r.dim / r.heads : r.dim;
  const float inverse_dim = 1.0f / static_cast<float>(r.dim);
  for (int64_t row = r.begin; row < r.end; ++row) {
    const X* x = static_cast<const X*>(r.x) + row * r.x_stride;
    Y* y = static_cast<Y*>(r.y) + row * r.y_stride;
    const float mean_square = row_sum(x, r.dim, [](vf v) { return v * v; }) * inverse_dim;
    const float inverse = 1.0f / __builtin_sqrtf(mean_square + r.eps);
    const float* weight = r.weight;
    if (!r.cosine) {
      row_map(x, y, r.dim,
              [=](vf v, int64_t i, auto lane) { return v * inverse * lane(weight + i); });
      continue;
    }
    const float* cosine = r.cosine + row * r.rope_stride;
    const float* sine = r.sine + row * r.rope_stride;
    for (int64_t head = 0; head < r.heads; ++head) {
      for (int64_t begin = 0; begin < head_dim; begin += kChunk) {
        const int64_t n = head_dim - begin < kChunk ? head_dim - begin : kChunk;
        const int64_t at = head * head_dim + begin;
        const float* w = weight + at;
        row_map(x + at, buffer, n,
                [=](vf v, int64_t i, auto lane) { return v * inverse * lane(w + i); });
        rotate(buffer, cosine + begin / 2, sine + begin / 2, n / 2);
        row_map(buffer, y + at, n, [](vf v, int64_t, auto) { return v; });
      }
    }
  }
}

// Several rows in a vector: dim is a power of two up to kWidth. Sums of neighbours at distance 1,
// 2, 4 ... leave in every lane the sum of its row.
void channel_norm_narrow(const ChannelNormRows& r) {
  const float root = __builtin_sqrtf(static_cast<float>(r.dim));
  const float* x = static_cast<const float*>(r.x);
  float* y = static_cast<float*>(r.y);
  vi lane;
  vf gamma;
  for (int i = 0; i < kWidth; ++i) {
    lane[i] = i;
    gamma[i] = r.gamma[i % r.dim];
  }
  for (int64_t i = r.begin * r.dim; i < r.end * r.dim; i += kWidth) {
    const int64_t n = r.end * r.dim - i;
    const vf v = n < kWidth ? load_some(x + i, n) : load(x + i);
    vf total = v * v;
    for (int32_t step = 1; step < r.dim; step *= 2) total += shuffle(total, total, lane ^ step);
    vf out = v * (root / max(sqrt(total), set1(1e-12f))) * gamma;
    if (r.activate) out = silu(out);
    if (n < kWidth)
      store_some(y + i, out, n);
    else
      store(y + i, out);
  }
}

template <class X, class Y>
void channel_norm_rows(const ChannelNormRows& r) {
  const float root = __builtin_sqrtf(static_cast<float>(r.dim));
  for (int64_t row = r.begin; row < r.end; ++row) {
    const X* x = static_cast<const X*>(r.x) + row * r.dim;
    Y* y = static_cast<Y*>(r.y) + row * r.dim;
    const float length = __builtin_sqrtf(row_sum(x, r.dim, [](vf v) { return v * v; }));
    const float factor = root / (length > 1e-12f ? length : 1e-12f);
    const float* gamma = r.gamma;
    if (r.activate)
      row_map(x, y, r.dim,
              [=](vf v, int64_t i, auto lane) { return silu(v * factor * lane(gamma + i)); });
    else
      row_map(x, y, r.dim,
              [=](vf v, int64_t i, auto lane) { return v * factor * lane(gamma + i); });
  }
}

}  // namespace

void modulate(const ModulateRows& r) {
  if (r.y_type == RowType::f32)
    modulate_rows<float>(r);
  else
    modulate_rows<uint16_t>(r);
}

void rms(const RmsRows& r) {
  const bool x32 = r.x_type == RowType::f32, y32 = r.y_type == RowType::f32;
  if (x32 && y32)
    rms_rows<float, float>(r);
  else if (x32)
    rms_rows<float, uint16_t>(r);
  else if (y32)
    rms_rows<uint16_t, float>(r);
  else
    rms_rows<uint16_t, uint16_t>(r);
}

void channel_norm(const ChannelNormRows& r) {
  const bool x32 = r.x_type == RowType::f32, y32 = r.y_type == RowType::f32;
  if (x32 && y32 && r.dim <= kWidth && (r.dim & (r.dim - 1)) == 0)
    channel_norm_narrow(r);
  else if (x32 && y32)
    channel_norm_rows<float, float>(r);
  else if (x32)
    channel_norm_rows<float, uint16_t>(r);
  else if (y32)
    channel_norm_rows<uint16_t, float>(r);
  else
    channel_norm_rows<uint16_t, uint16_t>(r);
}

}  // namespace longtake::cpu::LT_ISA_NS
