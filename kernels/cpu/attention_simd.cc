// Online softmax attention (Milakov and Gimelshein 2018; Dao 2022) of a tile of queries: per block
// of kBlock keys a block of logits, their running maximum, probabilities in place of the logits,
// and the rescaled sum of values. The arithmetic of a row depends on the key blocks only, never on
// the tile. A logit below kFloor counts as masked.
#include "kernels/cpu/attention_pack_simd.h"
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/product_simd.h"
#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

constexpr int kBlock = 256;   // keys whose logits are held at once
constexpr int kStride = 272;  // of a row of logits: not a power of two, rows fall in different sets
constexpr float kFloor = -1e30f;
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kInfinity = __builtin_inff();

void pack(const AttentionPanel& p) {
  if (p.type == RowType::f32) return pack_panel<Mode::exact>(p);
  pack_panel<kHasPairs ? Mode::pairs : Mode::rounded>(p);
}

// Scratch of a tile.
struct Work {
  float* queries;  // [rows, depth room] units
  float* logits;   // [rows, kStride], then probabilities as units
  float* sums;     // [rows, columns], the weighted sum of values
  float* totals;   // [rows, kWidth], partial sums of probabilities
  float* top;      // [rows], running maximum of the logits, in base 2
  float* factor;   // [rows], what the sums of this block are multiplied with
};

size_t carve(int64_t rows, int64_t head_dim, float* base, Work* work) {
  const int64_t columns = round_up(head_dim, kWidth);
  const int64_t room = round_up(rows, 16);
  const int64_t floats[] = {rows * columns, rows * kStride, rows * columns,
                            rows * kWidth,  room,           room};
  float** fields[] = {&work->queries, &work->logits, &work->sums,
                      &work->totals,  &work->top,    &work->factor};
  size_t at = 0;
  for (int i = 0; i < 6; ++i) {
    *fields[i] = base + at;
    at += static_cast<size_t>(round_up(floats[i], 16));
  }
  return at * sizeof(float);
}

size_t scratch_bytes(int64_t rows, int64_t head_dim) {
  Work work;
  return carve(rows, head_dim, nullptr, &work);
}

// 2^x for x <= about 0; -infinity gives exactly 0, NaN stays NaN. Minimax polynomials with p(0) =
// 1: relative error 9e-8 (exact), 3e-6 otherwise, where bf16 rounding (2e-3) follows.
#if defined(__AVX512F__)
template <Mode mode>
LT_INLINE vf power(vf x) {
  constexpr int kFloorNoException = 9;
  constexpr __mmask16 kAll = 0xffff;  // the form without a mask warns in g++ 12
  const vf f =
      (vf)_mm512_maskz_reduce_ps(kAll, (__m512)x, kFloorNoException);  // x - floor(x), in [0, 1)
  vf p;
  if constexpr (mode == Mode::exact) {
    p = set1(1.867130071e-3f) * f + 9.017030320e-3f;
    p = p * f + 5.579991311e-2f;
    p = p * f + 2.401644502e-1f;
    p = p * f + 6.931513118e-1f;
  } else {
    p = set1(1.342668428e-2f) * f + 5.224247420e-2f;
    p = p * f + 2.412802048e-1f;
    p = p * f + 6.930448449e-1f;
  }
  p = p * f + 1.0f;
  return (vf)_mm512_maskz_scalef_ps(kAll, (__m512)p, (__m512)x);  // p 2^floor(x)
}
#else
template <Mode mode>
LT_INLINE vf power(vf x) {
#if defined(__AVX2__)
  x = (vf)_mm256_max_ps((__m256)set1(-127.0f), (__m256)x);  // the second of two operands when NaN
#else
  x = max(set1(-127.0f), x);
#endif
  const vf shifted = x + 12582912.0f;        // 1.5 * 2^23: rounds to an integer in the low bits
  const vf f = x - (shifted - 12582912.0f);  // in [-0.5, 0.5]
  vf p;
  if constexpr (mode == Mode::exact) {
    p = set1(1.326472718e-3f) * f + 9.671512641e-3f;
    p = p * f + 5.550733743e-2f;
    p = p * f + 2.402224209e-1f;
    p = p * f + 6.931469776e-1f;
  } else {
    p = set1(9.582853085e-3f) * f + 5.590642461e-2f;
    p = p * f + 2.402409861e-1f;
    p = p * f + 6.931241934e-1f;
  }
  p = p * f + 1.0f;
  return (vf)((vi)p + ((vi)shifted << 23));  // exactly 0 at -127
}
#endif

template <int distance>
LT_INLINE vf swap_lanes(vf x) {
  vi mask;
  for (int lane = 0; lane < kWidth; ++lane) mask[lane] = lane ^ distance;
  return shuffle(x, x, mask);
}

template <int distance = kWidth / 2>
LT_INLINE float largest(vf x) {
  if constexpr (distance == 0)
    return x[0];
  else
    return largest<distance / 2>(max(x, swap_lanes<distance>(x)));
}

// Lanes from n on become -infinity.
LT_INLINE vf mask_tail(vf x, int64_t n) {
  vi lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? x : set1(-kInfinity);
}

// Logits of a row in base 2, in place; n is not a multiple of kWidth only in the last block.
LT_INLINE void add_bias(float* row, int64_t n, float scale, const float* key_bias,
                        const float* bias) {
  for (int64_t j = 0; j < n; j += kWidth) {
    vf x = load(row + j) * scale;
    if (key_bias) x += load(key_bias + j);
    if (bias) x += load_up_to(bias + j, n - j);
    store(row + j, x * kLog2e);
  }
}

// Four maxima side by side: one chain would wait for every comparison.
LT_INLINE float row_top(float* row, int64_t n) {
  if (n % kWidth)
    store(row + n / kWidth * kWidth, mask_tail(load(row + n / kWidth * kWidth), n % kWidth));
  const int64_t room = round_up(n, kWidth);
  vf top[4];
  for (vf& t : top) t = set1(-kInfinity);
  int64_t j = 0;
  for (; j + 4 * kWidth <= room; j += 4 * kWidth)
    for (int i = 0; i < 4; ++i) top[i] = max(top[i], load(row + j + i * kWidth));
  for (; j < room; j += kWidth) top[0] = max(top[0], load(row + j));
  return largest(max(max(top[0], top[1]), max(top[2], top[3])));
}

template <Mode mode>
LT_INLINE vf put_probabilities(float* row, int64_t j, vf p) {
  if constexpr (mode == Mode::pairs) {
    store(reinterpret_cast<uint16_t*>(row) + j, p);  // behind what is still to be read
  } else if constexpr (mode == Mode::rounded) {
    store(row + j, widen(narrow(p)));
  } else {
    store(row + j, p);
  }
  return p;
}

// Logits to probabilities, in place: 2^(scale x - top). Returns their sums per lane.
template <Mode mode>
LT_INLINE vf exponentials(float* row, int64_t n, float scale, float top) {
  vf total[2] = {};
  int64_t j = 0;
  for (; j + 2 * kWidth <= n; j += 2 * kWidth) {
    const vf a = load(row + j), b = load(row + j + kWidth);
    total[0] += put_probabilities<mode>(row, j, power<mode>(a * scale - top));
    total[1] += put_probabilities<mode>(row, j + kWidth, power<mode>(b * scale - top));
  }
  for (; j < n; j += kWidth)
    total[0] += put_probabilities<mode>(row, j, power<mode>(load(row + j) * scale - top));
  return total[0] + total[1];
}

// Probabilities of keys [k, k + n) in place of their logits, and the factor of the earlier sums.
template <Mode mode>
void softmax_block(const AttentionTile& t, const Work& w, int64_t k, int64_t n) {
  const bool biased = t.key_bias || t.bias || !(t.scale > 0);
  const float scale = biased ? 1.0f : t.scale * kLog2e;
  for (int64_t i = 0; i < t.rows; ++i) {
    float* row = w.logits + i * kStride;
    if (biased)
      add_bias(row, n, t.scale, t.key_bias ? t.key_bias + k : nullptr,
               t.bias ? t.bias + i * t.bias_stride + k : nullptr);
    const float before = w.top[i];
    const float block = row_top(row, n) * scale;
    const float top = block > before ? block : before;
    w.factor[i] = top == before ? 1.0f : power<Mode::exact>(set1(before - top))[0];
    w.top[i] = top;
    float* total = w.totals + i * kWidth;
    store(total, load(total) * w.factor[i] + exponentials<mode>(row, n, scale, top));
  }
}

template <Mode mode>
void logits_block(const AttentionTile& t, const Work& w, int64_t depth, int64_t k, int64_t n) {
  for (int64_t j = 0; j < n; j += kPanel) {
    const int64_t vectors = round_up(n - j < kPanel ? n - j : kPanel, kWidth) / kWidth;
    product<mode == Mode::pairs>({w.queries, depth, t.keys + (k + j) * depth, kPanel, depth,
                                  w.logits + j, kStride, nullptr, t.rows, vectors});
  }
}

template <Mode mode>
void values_block(const AttentionTile& t, const Work& w, int64_t k, int64_t n, bool first) {
  constexpr int kKeys = mode == Mode::pairs ? 2 : 1;
  const int64_t columns = round_up(t.head_dim, kWidth);
  for (int64_t begin = 0; begin < columns; begin += kPanel) {
    const int64_t width = columns - begin < kPanel ? columns - begin : kPanel;
    const float* panel = t.values + begin * (t.key_room / kKeys) + k / kKeys * width;
    product<mode == Mode::pairs>({w.logits, kStride, panel, width, (n + kKeys - 1) / kKeys,
                                  w.sums + begin, columns, first ? nullptr : w.factor, t.rows,
                                  width / kWidth});
  }
}

template <Mode mode>
void pack_queries(const AttentionTile& t, const Work& w, int64_t depth) {
  constexpr int64_t kSize = mode == Mode::exact ? 4 : 2;
  for (int64_t i = 0; i < t.rows; ++i) {
    const void* row = static_cast<const char*>(t.q) + i * t.q_stride * kSize;
    // The last vector may reach into the next row, which is written later, or the room behind.
    for (int64_t unit = 0; unit < depth; unit += kWidth)
      store(w.queries + i * depth + unit, row_units<mode>(row, unit, t.head_dim));
  }
}

template <class T>
void finish(const AttentionTile& t, const Work& w) {
  const int64_t columns = round_up(t.head_dim, kWidth);
  for (int64_t i = 0; i < t.rows; ++i) {
    const float total = sum(load(w.totals + i * kWidth));
    // An empty sum has no rows of `sums` that are defined.
    const bool empty = total == 0;
    T* out = static_cast<T*>(t.out) + i * t.out_stride;
    const float* row = w.sums + i * columns;
    const vf inverse = set1(1.0f / total);
    for (int64_t j = 0; j < t.head_dim; j += kWidth) {
      const vf x = empty ? vf{} : load(row + j) * inverse;
      if (j + kWidth <= t.head_dim) {
        store(out + j, x);
      } else {
        for (int64_t lane = 0; j + lane < t.head_dim; ++lane) store1(out + j + lane, x[lane]);
      }
    }
    if (t.lse) t.lse[i] = empty ? -kInfinity : w.top[i] * kLn2 + __builtin_logf(total);
  }
}

template <Mode mode, class T>
void tile_of(const AttentionTile& t) {
  Work w;
  carve(t.rows, t.head_dim, static_cast<float*>(t.scratch), &w);
  const int64_t depth = mode == Mode::pairs ? (t.head_dim + 1) / 2 : t.head_dim;
  pack_queries<mode>(t, w, depth);
  for (int64_t i = 0; i < t.rows; ++i) {
    w.top[i] = kFloor;
    store(w.totals + i * kWidth, vf{});
  }
  bool first = true;
  for (int64_t run = 0; run < t.run_count; ++run) {
    const int64_t end = t.runs[run].end;
    for (int64_t k = t.runs[run].begin; k < end; k += kBlock) {
      const int64_t n = end - k < kBlock ? end - k : kBlock;
      logits_block<mode>(t, w, depth, k, n);
      softmax_block<mode>(t, w, k, n);
      values_block<mode>(t, w, k, n, first);
      first = false;
    }
  }
  finish<T>(t, w);
}

void tile(const AttentionTile& t) {
  if (t.type == RowType::f32) return tile_of<Mode::exact, float>(t);
  tile_of<kHasPairs ? Mode::pairs : Mode::rounded, uint16_t>(t);
}

}  // namespace

const AttentionKernel kAttention{kWidth, kPanel, kHasPairs, scratch_bytes, pack, tile};

}  // namespace longtake::cpu::LT_ISA_NS
