// Checks of the point-wise CUDA kernels against the oracle, on the host or on a GPU (`Kernels`).
#pragma once

#include "kernels/patch.h"
#include "kernels/reference/elementwise.h"
#include "tests/cuda_host/placed.h"

namespace longtake::testing {

// Elements [offset, offset + n) of a longer vector: offsets other than 0 fit no chunk.
struct Part {
  int64_t n, offset;
  Shape whole() const { return {n + offset + 5}; }
  template <class View>
  View of(View x) const {
    return x.rows(offset, offset + n);
  }
};

inline bool same_outside(const OwnedTensor& a, const OwnedTensor& b, const Part& part) {
  const size_t size = size_bytes(a.dtype());
  const auto* x = static_cast<const char*>(a.view().data);
  const auto* y = static_cast<const char*>(b.view().data);
  const size_t begin = static_cast<size_t>(part.offset) * size;
  const size_t end = begin + static_cast<size_t>(part.n) * size;
  return std::memcmp(x, y, begin) == 0 && std::memcmp(x + end, y + end, a.bytes() - end) == 0;
}

inline bool same_value(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

// Bit patterns spread over all of the type, ends and ties among them.
inline OwnedTensor patterns(DType type, Shape shape) {
  OwnedTensor x(type, shape);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto bits = static_cast<uint32_t>(i) * 0x9e3779b1u;
    const uint32_t tie = i % 3 == 0 ? (bits & 0xffff0000u) | 0x8000u : bits;
    if (type == DType::f32)
      x.as<float>()[i] = std::bit_cast<float>(tie);
    else
      static_cast<uint16_t*>(x.view().data)[i] = static_cast<uint16_t>(i * 7);
  }
  return x;
}

// Every conversion is exact but for the one rounding to bf16, which is that of to_bf16.
template <class Kernels>
void check_convert(Kernels& k, DType from, DType to, Part part) {
  CAPTURE(name(from));
  CAPTURE(name(to));
  CAPTURE(part.n);
  CAPTURE(part.offset);
  const OwnedTensor x = patterns(from, part.whole()),
                    before = random_tensor(part.whole(), 2, 1, to);
  const OwnedTensor there = k.up(x);
  OwnedTensor y = k.up(before);

  k.convert(part.of(there.view()), part.of(y.view()));

  const OwnedTensor got = k.down(y);
  const auto* bits = static_cast<const uint16_t*>(x.view().data);
  int64_t wrong = 0;
  for (int64_t i = part.offset; i < part.offset + part.n; ++i) {
    const float value = from == DType::f32    ? x.as<float>()[i]
                        : from == DType::bf16 ? to_float(bf16{bits[i]})
                                              : f16_to_float(bits[i]);
    wrong += to == DType::f32 ? !same_value(got.as<float>()[i], value)
                              : !same_value(to_float(got.as<bf16>()[i]), to_float(to_bf16(value)));
  }
  CHECK(wrong == 0);
  CHECK(same_outside(got, before, part));
}

template <class Kernels>
void check_silu(Kernels& k, Part part, float scale) {
  CAPTURE(part.n);
  CAPTURE(scale);
  const OwnedTensor x = random_tensor(part.whole(), 1, scale),
                    before = random_tensor(part.whole(), 2);
  const OwnedTensor there = k.up(x);
  OwnedTensor y = k.up(before);

  k.silu(part.of(there.view()), part.of(y.view()));

  const OwnedTensor got = k.down(y);
  const Doubles xs = to_doubles(part.of(x.view()));
  Doubles bound;
  for (const double e : xs) bound.push_back(cuda_silu_error(e));
  CHECK(worst_ratio(part.of(got.view()), reference::silu(xs), bound) < 1.0);
  CHECK(same_outside(got, before, part));
}

// Into a itself.
template <class Kernels>
void check_gated_gelu(Kernels& k, DType type, Part part, float scale) {
  CAPTURE(name(type));
  CAPTURE(part.n);
  CAPTURE(scale);
  const OwnedTensor a = random_tensor(part.whole(), 1, scale, type);
  const OwnedTensor b = random_tensor(part.whole(), 2, 3, type), b_there = k.up(b);
  OwnedTensor y = k.up(a);

  k.gated_gelu(part.of(y.view()), part.of(b_there.view()), part.of(y.view()));

  const OwnedTensor got = k.down(y);
  const Doubles as = to_doubles(part.of(a.view())), bs = to_doubles(part.of(b.view()));
  const Doubles expected = reference::gated_gelu(as, bs);
  Doubles bound;
  for (size_t i = 0; i < as.size(); ++i)
    bound.push_back(std::abs(bs[i]) * cuda_gelu_error(as[i]) + kUnit32 * std::abs(expected[i]));
  CHECK(worst_ratio(part.of(got.view()), expected, bound) < 1.0);
  CHECK(same_outside(got, a, part));
}

template <class Kernels>
void check_add(Kernels& k, Part part) {
  CAPTURE(part.n);
  const OwnedTensor x = random_tensor(part.whole(), 1, 1000),
                    before = random_tensor(part.whole(), 2);
  const OwnedTensor there = k.up(x);
  OwnedTensor y = k.up(before);

  k.add(part.of(there.view()), part.of(y.view()));

  const OwnedTensor got = k.down(y);
  int64_t wrong = 0;
  for (int64_t i = part.offset; i < part.offset + part.n; ++i)
    wrong += got.as<float>()[i] != x.as<float>()[i] + before.as<float>()[i];
  CHECK(wrong == 0);
  CHECK(same_outside(got, before, part));
}

// Into the last of the tensors.
template <class Kernels>
void check_combination(Kernels& k, size_t terms, Part part) {
  CAPTURE(terms);
  CAPTURE(part.n);
  const float weight[] = {0.5f, -1.25f, 3.0f, 0.1f, -7.0f, 0.25f, 1e-3f, 11.0f};
  std::vector<OwnedTensor> host, there;
  std::vector<ConstTensor> x;
  std::vector<Doubles> xs;
  for (size_t i = 0; i < terms; ++i) {
    host.push_back(random_tensor(part.whole(), i + 1));
    there.push_back(k.up(host.back()));
    xs.push_back(to_doubles(part.of(host.back().view())));
  }
  for (OwnedTensor& t : there) x.push_back(part.of(t.view()));

  k.linear_combination(x, std::span(weight, terms), part.of(there.back().view()));

  const OwnedTensor got = k.down(there.back());
  const Doubles weights(weight, weight + terms);
  Doubles bound(xs[0].size(), 0.0);
  for (size_t t = 0; t < terms; ++t)
    for (size_t i = 0; i < bound.size(); ++i)
      bound[i] += static_cast<double>(terms) * kUnit32 * std::abs(weights[t] * xs[t][i]);
  CHECK(worst_ratio(part.of(got.view()), reference::linear_combination(xs, weights), bound) < 1.0);
  CHECK(same_outside(got, host.back(), part));
}

template <class T>
void set_bits(OwnedTensor& x, int64_t i, T bits) {
  static_cast<T*>(x.view().data)[i] = bits;
}

// Infinity for even places, NaN for odd ones; `finite`: the largest number.
inline void set_special(OwnedTensor& x, int64_t i, bool finite) {
  const bool nan = i % 2 != 0 && !finite;
  if (x.dtype() == DType::f32)
    set_bits(x, i, (finite ? 0xff7fffffu : 0xff800000u) | (nan ? 1u : 0u));
  else if (x.dtype() == DType::f64)
    set_bits(x, i, uint64_t{finite ? 0x7fefffffffffffffu : 0x7ff0000000000000u} | (nan ? 1u : 0u));
  else if (x.dtype() == DType::bf16)
    set_bits(x, i, static_cast<uint16_t>((finite ? 0xff7fu : 0xff80u) | (nan ? 1u : 0u)));
  else
    set_bits(x, i, static_cast<uint16_t>((finite ? 0x7bffu : 0x7c00u) | (nan ? 1u : 0u)));
}

// One bad element at either end, in the middle, and just outside of the part.
template <class Kernels>
void check_all_finite(Kernels& k, DType type, Part part) {
  CAPTURE(name(type));
  CAPTURE(part.n);
  CAPTURE(part.offset);
  OwnedTensor x(type, part.whole());
  for (int64_t i = 0; i < x.numel(); ++i) set_special(x, i, true);
  const int64_t end = part.offset + part.n;
  set_special(x, end, false);
  if (part.offset > 0) set_special(x, part.offset - 1, false);
  CHECK(k.all_finite(part.of(k.up(x).view())));
  for (const int64_t at :
       {part.offset, part.offset + part.n / 2, part.offset + part.n / 3, end - 1}) {
    CAPTURE(at);
    set_special(x, at, false);
    CHECK_FALSE(k.all_finite(part.of(k.up(x).view())));
    set_special(x, at, true);
  }
}

template <class Kernels>
void check_add_rows(Kernels& k, int64_t rows, int64_t dim, Layout layout) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(static_cast<int>(layout));
  const Placed x(k, rows, dim, layout, DType::f32, 1);
  const OwnedTensor table = random_tensor({dim}, 2), table_there = k.up(table);
  Placed sum(k, rows, dim, layout, DType::f32, 3, 1, fill_nan);

  k.add_rows(x.view(), table_there, sum.view());

  Doubles expected = x.doubles();
  for (size_t i = 0; i < expected.size(); ++i)
    expected[i] += table.as<float>()[i % static_cast<size_t>(dim)];
  CHECK(sum.ratio(expected, Doubles(expected.size())) < 1.0);  // rounded once
}

template <class Kernels>
void check_bias_activation(Kernels& k, int64_t rows, int64_t dim, DType type, Layout layout,
                           int activation, bool with_bias) {
  CAPTURE(rows);
  CAPTURE(dim);
  CAPTURE(name(type));
  CAPTURE(static_cast<int>(layout));
  CAPTURE(activation);
  Placed y(k, rows, dim, layout, type, 1, 9);
  const OwnedTensor bias = random_tensor({dim}, 2), there = k.up(bias);

  k.bias_activation(y.view(), with_bias ? there.as<float>() : nullptr, activation);

  Doubles expected = y.doubles(), bound(expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double x = expected[i] + (with_bias ? bias.as<float>()[i % static_cast<size_t>(dim)] : 0);
    const double input = 1.13 * kUnit32 * std::abs(x);  // the sum's rounding; slopes below 1.13
    expected[i] = activation == 1   ? reference::gelu_tanh(x)
                  : activation == 2 ? reference::silu(x)
                                    : x;
    if (activation == 1) bound[i] = input + cuda_gelu_error(x);
    if (activation == 2) bound[i] = input + cuda_silu_error(x);
  }
  if (activation == 0)
    for (size_t i = 0; i < bound.size(); ++i) bound[i] = kUnit32 * std::abs(expected[i]);
  CHECK(y.ratio(expected, bound) < 1.0);
}

template <class Kernels>
void check_relative_bias(Kernels& k, int64_t heads, int64_t tokens) {
  const int64_t buckets = 8;
  const OwnedTensor table = random_tensor({buckets, heads}, 1);
  OwnedTensor bucket(DType::i32, {2 * tokens - 1});
  for (int64_t d = 0; d < bucket.numel(); ++d)
    bucket.as<int32_t>()[d] = static_cast<int32_t>(d * d % buckets);
  const OwnedTensor table_there = k.up(table), bucket_there = k.up(bucket);
  OwnedTensor bias = k.up(random_tensor({heads, tokens, tokens}, 2));

  k.relative_bias(table_there, bucket_there, bias);

  const OwnedTensor got = k.down(bias);
  int64_t wrong = 0;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t query = 0; query < tokens; ++query)
      for (int64_t key = 0; key < tokens; ++key)
        wrong += got.as<float>()[(h * tokens + query) * tokens + key] !=
                 table.as<float>()[bucket.as<int32_t>()[key - query + tokens - 1] * heads + h];
  CHECK(wrong == 0);
}

// There and back against the definition of kernels/patch.h, with a padded matrix of patches.
template <class Kernels>
void check_patches(Kernels& k, const PatchGrid& g, int64_t channels) {
  const int64_t frames = g.frames * g.patch[0], height = g.rows * g.patch[1];
  const int64_t width = g.columns * g.patch[2], dim = channels * g.inside();
  const OwnedTensor latent = random_tensor({channels, frames, height, width}, 1);
  const OwnedTensor latent_there = k.up(latent);
  Placed patches(k, g.tokens(), dim, Layout::shifted, DType::f32, 2, 1, fill_nan);
  const Placed back(k, g.tokens(), dim, Layout::shifted, DType::f32, 3);
  OwnedTensor to = k.up(random_tensor(latent.shape(), 4));

  k.patchify(latent_there, g, patches.view());
  k.unpatchify(back.view(), g, to);

  const OwnedTensor got = k.down(to);
  const Doubles from = back.doubles();
  Doubles expected(static_cast<size_t>(latent.numel()));
  int64_t wrong = 0;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t f = 0; f < frames; ++f)
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
          const int64_t at = ((c * frames + f) * height + y) * width + x;
          const int64_t token =
              ((f / g.patch[0]) * g.rows + y / g.patch[1]) * g.columns + x / g.patch[2];
          const int64_t inside =
              (f % g.patch[0] * g.patch[1] + y % g.patch[1]) * g.patch[2] + x % g.patch[2];
          expected[static_cast<size_t>(token * dim + c * g.inside() + inside)] =
              latent.as<float>()[at];
          wrong +=
              got.as<float>()[at] != from[static_cast<size_t>(token * dim + inside * channels + c)];
        }
  CHECK(wrong == 0);
  CHECK(patches.ratio(expected, Doubles(expected.size())) == 0.0);
}

}  // namespace longtake::testing
