// Point-wise kernels and what follows a matrix product.
#include "kernels/cpu/kernels_simd.h"
#include "kernels/cpu/simd.h"

namespace longtake::cpu::LT_ISA_NS {
namespace {

// f(i, lane): lane loads a full vector, or what is left of one for the tail.
struct FullLanes {
  template <class T>
  LT_INLINE vf get(const T* p) {
    return load(p);
  }
};
struct SomeLanes {
  int64_t n;
  template <class T>
  inline __attribute__((always_inline)) vf get(const T* p) const {
    return load_some(p, n);
  }
};

template <class Y, class F>
LT_INLINE void map(Y* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(y + i, f(i, FullLanes{}));
  if (i < n) store_some(y + i, f(i, SomeLanes{n - i}), n - i);
}

enum { kNone, kGelu, kSilu };  // longtake::Activation

template <int activation>
LT_INLINE vf activate(vf x) {
  if (activation == kGelu) return gelu_tanh(x);
  if (activation == kSilu) return silu(x);
  return x;
}

template <int activation, class Y>
void epilogue_store(const EpilogueRows& r) {
  for (int64_t row = 0; row < r.rows; ++row) {
    const float* acc = r.acc + row * r.acc_stride;
    Y* y = static_cast<Y*>(r.y) + row * r.y_stride;
    const float* bias = r.bias;
    if (bias)
      map(y, r.columns, [=](int64_t i, auto lane) {
        return activate<activation>(lane.get(acc + i) + lane.get(bias + i));
      });
    else
      map(y, r.columns,
          [=](int64_t i, auto lane) { return activate<activation>(lane.get(acc + i)); });
  }
}

template <int activation>
void epilogue_residual(const EpilogueRows& r) {
  for (int64_t row = 0; row < r.rows; ++row) {
    const float* acc = r.acc + row * r.acc_stride;
    float* y = r.residual + row * r.residual_stride;
    const float* bias = r.bias;
    const float* gate =
        r.gate ? r.gate + (r.gate_row ? r.gate_row[row] * r.gate_stride : 0) : nullptr;
    map(y, r.columns, [=](int64_t i, auto lane) {
      vf v = lane.get(acc + i);
      if (bias) v += lane.get(bias + i);
      v = activate<activation>(v);
      if (gate) v *= lane.get(gate + i);
      return lane.get(y + i) + v;
    });
  }
}

template <int activation>
void epilogue_of(const EpilogueRows& r) {
  if (!r.y)
    epilogue_residual<activation>(r);
  else if (r.y_type == RowType::f32)
    epilogue_store<activation, float>(r);
  else
    epilogue_store<activation, uint16_t>(r);
}

template <class T>
void gated_gelu_of(const T* a, const T* b, T* y, int64_t n) {
  map(y, n, [=](int64_t i, auto lane) { return gelu_tanh(lane.get(a + i)) * lane.get(b + i); });
}

}  // namespace

void epilogue(const EpilogueRows& r) {
  switch (r.activation) {
    case kGelu:
      return epilogue_of<kGelu>(r);
    case kSilu:
      return epilogue_of<kSilu>(r);
    default:
      return epilogue_of<kNone>(r);
  }
}

void silu_rows(const float* x, float* y, int64_t n) {
  map(y, n, [=](int64_t i, auto lane) { return silu(lane.get(x + i)); });
}

void gated_gelu(const void* a, const void* b, void* y, RowType type, int64_t n) {
  if (type == RowType::f32)
    gated_gelu_of(static_cast<const float*>(a), static_cast<const float*>(b),
                  static_cast<float*>(y), n);
  else
    gated_gelu_of(static_cast<const uint16_t*>(a), static_cast<const uint16_t*>(b),
                  static_cast<uint16_t*>(y), n);
}

void add_rows(const float* x, float* y, int64_t n) {
  map(y, n, [=](int64_t i, auto lane) { return lane.get(y + i) + lane.get(x + i); });
}

void linear_combination(const float* const* x, const float* weight, int count, float* y,
                        int64_t n) {
  map(y, n, [=](int64_t i, auto lane) {
    vf total = lane.get(x[0] + i) * weight[0];
    for (int k = 1; k < count; ++k) total += lane.get(x[k] + i) * weight[k];
    return total;
  });
}

void to_bf16(const float* x, uint16_t* y, int64_t n) {
  map(y, n, [=](int64_t i, auto lane) { return lane.get(x + i); });
}

void to_f32(const uint16_t* x, float* y, int64_t n) {
  map(y, n, [=](int64_t i, auto lane) { return lane.get(x + i); });
}

}  // namespace longtake::cpu::LT_ISA_NS
