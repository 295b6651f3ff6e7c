// Linear layers against their oracle: shapes around every tile edge, epilogues, weight types.
//
// A sum of n products in f32 is off by at most (n + 2) u sum |x w|, in any order (Higham, 3.1),
// bias included; products of two bf16 are exact. Activations have slopes below 1.13. Operands are
// rounded to the compute type before both sides see them.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string_view>

#include "kernels/base/error.h"
#include "kernels/cpu/linear.h"
#include "kernels/linear.h"
#include "kernels/reference/linear.h"
#include "tests/kernels/rows.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {
namespace {

using Doubles = std::vector<double>;
constexpr int64_t kRows[] = {1, 15, 16, 17, 127, 128, 129, 200};
constexpr int64_t kOut[] = {1, 3, 63, 64, 65, 130, 1030};
constexpr int64_t kIn[] = {1, 4, 12, 24, 64, 96, 300};

reference::Activation oracle_of(Activation a) {
  return a == Activation::none   ? reference::Activation::none
         : a == Activation::silu ? reference::Activation::silu
                                 : reference::Activation::gelu_tanh;
}

struct Problem {
  DType compute;
  int64_t rows, out, in;
  Strided x;
  OwnedTensor weight, bias;
  Linear packed;

  Problem(DType compute, int64_t rows, int64_t out, int64_t in, bool with_bias = true)
      : compute(compute),
        rows(rows),
        out(out),
        in(in),
        x(rows, in, 1, compute),
        weight(random_tensor({out, in}, 2, 1, compute)) {
    if (with_bias) bias = random_tensor({out}, 3);
    packed = Linear(weight, with_bias ? bias.view() : ConstTensor{}, compute, test_stream());
  }

  // The product, and what it may be off by.
  Doubles expected(Activation activation, Doubles* bound) const {
    const Doubles xs = x.doubles(), ws = to_doubles(weight);
    const Doubles bs = bias ? to_doubles(bias) : Doubles();
    const auto magnitude = [](Doubles v) {
      for (double& e : v) e = std::abs(e);
      return v;
    };
    constexpr auto kNone = reference::Activation::none;
    const Doubles sum = reference::linear(xs, ws, bs, kNone, rows, in, out);
    *bound = reference::linear(magnitude(xs), magnitude(ws), magnitude(bs), kNone, rows, in, out);
    Doubles y = sum;
    for (size_t i = 0; i < y.size(); ++i) {
      (*bound)[i] *= kUnit32 * static_cast<double>(in + 2);
      y[i] = reference::activate(oracle_of(activation), sum[i]);
      if (activation == Activation::none) continue;
      (*bound)[i] = 1.13 * (*bound)[i] +
                    (activation == Activation::silu ? silu_error(sum[i]) : gelu_error(sum[i]));
    }
    return y;
  }
};

void check_product(const Problem& p, Activation activation, DType y_type) {
  CAPTURE(name(p.compute));
  CAPTURE(p.rows);
  CAPTURE(p.out);
  CAPTURE(p.in);
  CAPTURE(static_cast<int>(activation));
  Strided y(p.rows, p.out, 9, y_type);
  const Strided before(p.rows, p.out, 9, y_type);

  linear({.x = p.x.view(), .activation = activation, .y = y.view()}, p.packed, test_stream());

  Doubles bound;
  const Doubles expected = p.expected(activation, &bound);
  CHECK(worst_ratio(y.view(), expected, bound) < 1.0);
  CHECK(y.kept_outside(before));
}

// residual += gate * activation(x W^T + b), `gates` rows of gates (0: none).
void check_residual(const Problem& p, Activation activation, int64_t gates) {
  CAPTURE(name(p.compute));
  CAPTURE(p.rows);
  CAPTURE(p.out);
  CAPTURE(gates);
  Strided residual(p.rows, p.out, 11, DType::f32, 4);
  const Strided before(p.rows, p.out, 11, DType::f32, 4);
  const Strided gate(std::max<int64_t>(gates, 1), p.out, 12, DType::f32, 2);
  std::vector<int32_t> gate_row;
  for (int64_t i = 0; gates > 1 && i < p.rows; ++i)
    gate_row.push_back(static_cast<int32_t>((i * 7 + i / 5) % gates));

  LinearArgs args{.x = p.x.view(), .activation = activation, .residual = residual.view()};
  if (gates > 0) args.gate = gate.view();
  if (gates > 1) args.gate_row = gate_row.data();
  linear(args, p.packed, test_stream());

  Doubles bound;
  const Doubles y = p.expected(activation, &bound);
  const Doubles g = gates > 0 ? gate.doubles() : Doubles();
  const Doubles sum = reference::gated_residual(y, before.doubles(), g, gate_row, p.rows, p.out);
  const Doubles scaled =
      reference::gated_residual(bound, Doubles(sum.size(), 0.0), g, gate_row, p.rows, p.out);
  const Doubles addend =
      reference::gated_residual(y, Doubles(sum.size(), 0.0), g, gate_row, p.rows, p.out);
  for (size_t i = 0; i < sum.size(); ++i)
    bound[i] = std::abs(scaled[i]) + 2 * kUnit32 * std::abs(addend[i]);
  CHECK(worst_ratio(residual.view(), sum, bound) < 1.0);
  CHECK(residual.kept_outside(before));
}

// Finite f16 numbers of moderate size.
OwnedTensor f16_tensor(Shape shape, uint64_t seed) {
  const OwnedTensor random = random_tensor(shape, seed, 32768);
  OwnedTensor out(DType::f16, shape);
  auto* bits = static_cast<uint16_t*>(out.view().data);
  for (int64_t i = 0; i < out.numel(); ++i) {
    const auto r = static_cast<uint32_t>(static_cast<int32_t>(random.as<float>()[i]) + 32768);
    bits[i] = static_cast<uint16_t>((r & 0x83ffu) | ((8 + r % 7) << 10));
  }
  return out;
}

// All bytes of a packed weight, those past the matrix too.
std::string_view packed_bytes(const Linear::Packed& packed) {
  return {static_cast<const cpu::PackedLinear&>(packed).data(0), packed.bytes()};
}

// Packed by us and by oneDNN, from a source that counts how often it is asked for each row.
void check_packing(DType compute, DType stored, int64_t out, int64_t in) {
  CAPTURE(name(compute));
  CAPTURE(name(stored));
  CAPTURE(out);
  CAPTURE(in);
  const OwnedTensor weight =
      stored == DType::f16 ? f16_tensor({out, in}, 5) : random_tensor({out, in}, 5, 1, stored);
  std::vector<std::atomic<int>> reads(static_cast<size_t>(out));
  const auto read = [&](int64_t first, int64_t n, void* room) -> const void* {
    for (int64_t i = first; i < first + n; ++i) ++reads.at(static_cast<size_t>(i));
    const ConstTensor rows = weight.view().rows(first, first + n);
    std::memcpy(room, rows.data, rows.bytes());
    return room;
  };
  const RowSource source{out, in, stored, read};

  const auto ours = cpu::pack_linear(source, compute, test_stream(2));
  CHECK(std::all_of(reads.begin(), reads.end(), [](int n) { return n == 1; }));
  const auto theirs = cpu::pack_linear_by_onednn(source, compute, test_stream(1));

  CHECK((packed_bytes(*ours) == packed_bytes(*theirs)));
}

}  // namespace

TEST_CASE("linear agrees with the oracle at every edge of its tiles") {
  for (const DType compute : kComputeTypes)
    for (const int64_t rows : kRows)
      for (const int64_t out : kOut)
        for (const int64_t in : kIn)
          check_product(Problem(compute, rows, out, in), Activation::none, compute);
}

TEST_CASE("activations follow the sum, in both output types, with and without a bias") {
  for (const DType compute : kComputeTypes)
    for (const DType y_type : kComputeTypes)
      for (const Activation a : {Activation::none, Activation::gelu_tanh, Activation::silu})
        for (const bool bias : {false, true}) {
          check_product(Problem(compute, 17, 65, 24, bias), a, y_type);
          check_product(Problem(compute, 129, 1030, 12, bias), a, y_type);
        }
}

TEST_CASE("a residual is added to, through gates of one or several rows") {
  for (const DType compute : kComputeTypes)
    for (const int64_t gates : {0, 1, 3}) {
      for (const int64_t rows : {1, 17, 200})
        for (const int64_t out : {1, 63, 130, 1030})
          check_residual(Problem(compute, rows, out, 96), Activation::none, gates);
      check_residual(Problem(compute, 40, 65, 24, false), Activation::gelu_tanh, gates);
      check_residual(Problem(compute, 40, 65, 24), Activation::silu, gates);
    }
}

TEST_CASE("weights and biases may be stored in any of the three types") {
  const int64_t rows = 20, out = 70, in = 50;
  for (const DType compute : kComputeTypes) {
    for (const DType stored : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(name(compute));
      CAPTURE(name(stored));
      const auto make = [&](Shape shape, uint64_t seed) {
        return stored == DType::f16 ? f16_tensor(shape, seed)
                                    : random_tensor(shape, seed, 1, stored);
      };
      const OwnedTensor weight = make({out, in}, 5), bias = make({out}, 6);
      Problem p(compute, rows, out, in);
      Strided y(rows, out, 7);

      p.packed = Linear(weight, bias, compute, test_stream());
      linear({.x = p.x.view(), .y = y.view()}, p.packed, test_stream());

      // The same numbers in the compute type, respectively f32 for the bias.
      const auto value = [&](const OwnedTensor& t, int64_t i) {
        if (stored == DType::f16)
          return f16_to_float(static_cast<const uint16_t*>(t.view().data)[i]);
        return stored == DType::bf16 ? to_float(t.as<bf16>()[i]) : t.as<float>()[i];
      };
      for (int64_t i = 0; i < p.weight.numel(); ++i) {
        if (compute == DType::f32)
          p.weight.as<float>()[i] = value(weight, i);
        else
          p.weight.as<bf16>()[i] = to_bf16(value(weight, i));
      }
      for (int64_t i = 0; i < out; ++i) p.bias.as<float>()[i] = value(bias, i);
      Doubles bound;
      const Doubles expected = p.expected(Activation::none, &bound);
      CHECK(worst_ratio(y.view(), expected, bound) < 1.0);
    }
  }
}

TEST_CASE("linear: the number of threads does not change a bit") {
  for (const DType compute : kComputeTypes) {
    for (const int64_t rows : {15, 129, 200}) {
      const Problem p(compute, rows, 1030, 300);
      OwnedTensor y[3];
      for (int threads = 1; threads <= 3; ++threads) {
        const Linear packed(p.weight, p.bias, compute, test_stream(threads));
        OwnedTensor& out = y[threads - 1] = OwnedTensor(DType::f32, {rows, 1030});
        linear({.x = p.x.view(), .activation = Activation::gelu_tanh, .y = out}, packed,
               test_stream(threads));
      }
      CHECK(same_bits(y[0], y[1]));
      CHECK(same_bits(y[0], y[2]));
    }
  }
}

TEST_CASE("weights that arrive row by row are packed as oneDNN packs them") {
  for (const DType compute : kComputeTypes)
    for (const DType stored : {DType::f32, DType::bf16, DType::f16}) {
      for (const int64_t out : {1, 3, 17, 64, 65, 130, 1030, 2176})
        for (const int64_t in : {1, 3, 31, 64, 70, 300}) check_packing(compute, stored, out, in);
      check_packing(compute, stored, 70, 17000);  // read in several steps
    }
}

TEST_CASE("an error while rows are read comes back to the caller") {
  const RowSource source{300, 8, DType::f32, [](int64_t first, int64_t, void*) -> const void* {
                           fail(ExitCode::io, "row {} cannot be read", first);
                         }};
  CHECK_THROWS_WITH_AS(Linear(source, {}, DType::f32, test_stream(2)),
                       doctest::Contains("cannot be read"), Error);
}

TEST_CASE("no rows: nothing is written") {
  const Problem p(DType::f32, 1, 5, 4);
  OwnedTensor x(DType::f32, {0, 4}), y(DType::f32, {0, 5});

  CHECK_NOTHROW(linear({.x = x, .y = y}, p.packed, test_stream()));
}

TEST_CASE("linear: NaN in a row stays in that row") {
  for (const DType compute : kComputeTypes) {
    const Problem p(compute, 20, 70, 24);
    Strided x(20, 24, 1, compute);
    if (compute == DType::f32)
      x.view().as<float>()[7 * x.view().row_stride] = std::nanf("");
    else
      x.view().as<bf16>()[7 * x.view().row_stride] = to_bf16(std::nanf(""));
    Strided y(20, 70, 2, compute);

    linear({.x = x.view(), .activation = Activation::gelu_tanh, .y = y.view()}, p.packed,
           test_stream());

    for (int64_t row = 0; row < 20; ++row)
      CHECK(std::isnan(element(y.view(), row, 33)) == (row == 7));
  }
}

TEST_CASE("linear: wrong arguments are refused with both sides of the story") {
  const Problem p(DType::f32, 4, 6, 8);
  OwnedTensor y(DType::f32, {4, 6}), wrong(DType::f32, {4, 7}), half(DType::bf16, {4, 6});
  const auto message = [&](const LinearArgs& args) -> std::string {
    try {
      linear(args, p.packed, test_stream());
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  const auto check = [](const std::string& text, const char* a, const char* b) {
    CHECK_MESSAGE((text.find(a) != std::string::npos && text.find(b) != std::string::npos), text);
  };

  check(message({.x = wrong, .y = y}), "[rows, 8]", "[4, 7]");
  check(message({.x = half, .y = y}), "f32", "bf16");
  check(message({.x = p.x.view(), .y = wrong}), "[4, 6]", "[4, 7]");
  check(message({.x = p.x.view()}), "exactly one", "residual");
  check(message({.x = p.x.view(), .residual = half}), "output cannot be", "bf16");
  check(message({.x = p.x.view(), .residual = y, .gate = wrong}), "gate", "[4, 7]");
  check(message({.x = p.x.view(), .residual = y, .gate = y}), "gate", "[4, 6]");
}

}  // namespace longtake::testing
