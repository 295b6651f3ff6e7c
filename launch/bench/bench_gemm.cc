// The matrix products of a transformer block: attention projections, both halves of the
// feed-forward layer, with what follows each of them there.
#include <algorithm>
#include <cmath>

#include "kernels/copy.h"
#include "kernels/linear.h"
#include "kernels/reference/linear.h"
#include "launch/bench/bench.h"
#include "launch/bench/normal_numbers.h"

namespace longtake {

namespace {

double value(const OwnedTensor& x, int64_t i) {
  return x.dtype() == DType::bf16 ? to_float(x.as<bf16>()[i]) : x.as<float>()[i];
}

std::vector<double> row_of(const OwnedTensor& x, int64_t row) {
  std::vector<double> out;
  for (int64_t i = 0; i < x.dim(1); ++i) out.push_back(value(x, row * x.dim(1) + i));
  return out;
}

struct Product {
  const char* part;
  int64_t out, in;
  Activation activation;
  bool residual;
};

class Problem {
 public:
  Problem(const Product& product, int64_t rows, DType dtype, BenchDevice& device)
      : product_(product),
        x_(device.normal(dtype, {rows, product.in}, 1)),
        weight_(normal_tensor(dtype, {product.out, product.in}, 2)),
        bias_(normal_tensor(DType::f32, {product.out}, 3)),
        gate_(device.normal(DType::f32, {1, product.out}, 4)),
        y_(product.residual ? DType::f32 : dtype, {rows, product.out}, device.stream().device()),
        packed_(weight_, bias_, dtype, device.stream()) {
    fill_zero(y_, device.stream());
  }

  void run(StreamRef stream) {
    LinearArgs args{.x = x_, .activation = product_.activation};
    if (product_.residual) {
      args.residual = y_;
      args.gate = gate_;
    } else {
      args.y = y_;
    }
    linear(args, packed_, stream);
  }

  // |y - reference| / |reference| of one row.
  double error(int64_t row, StreamRef stream) {
    fill_zero(y_, stream);
    run(stream);
    const OwnedTensor x = to_host(x_, stream), y = to_host(y_, stream), g = to_host(gate_, stream);
    const bool gelu = product_.activation == Activation::gelu_tanh;
    std::vector<double> weight, bias = row_of_vector(bias_);
    for (int64_t i = 0; i < weight_.numel(); ++i) weight.push_back(value(weight_, i));
    const auto expected =
        reference::linear(row_of(x, row), weight, bias,
                          gelu ? reference::Activation::gelu_tanh : reference::Activation::none, 1,
                          product_.in, product_.out);
    double difference = 0, length = 0;
    for (int64_t j = 0; j < product_.out; ++j) {
      const double gate = product_.residual ? value(g, j) : 1.0;
      const double e = gate * expected[static_cast<size_t>(j)];
      const double d = value(y, row * product_.out + j) - e;
      difference += d * d;
      length += e * e;
    }
    return std::sqrt(difference / length);
  }

  double flops() const { return 2.0 * static_cast<double>(x_.dim(0) * product_.in * product_.out); }

 private:
  static std::vector<double> row_of_vector(const OwnedTensor& x) {
    std::vector<double> out;
    for (int64_t i = 0; i < x.numel(); ++i) out.push_back(value(x, i));
    return out;
  }

  Product product_;
  OwnedTensor x_, weight_, bias_, gate_, y_;
  Linear packed_;
};

}  // namespace

void bench_gemm(const BenchSetup& setup) {
  BenchDevice device(setup);
  const StreamRef stream = device.stream();
  BenchReport report("gemm", setup);
  const Product products[] = {
      {"project", setup.dim, setup.dim, Activation::none, false},
      {"add", setup.dim, setup.dim, Activation::none, true},
      {"ffn up", setup.ffn, setup.dim, Activation::gelu_tanh, false},
      {"ffn down", setup.dim, setup.ffn, Activation::none, true},
  };
  for (const int64_t tokens : setup.tokens) {
    for (const Product& product : products) {
      Problem problem(product, tokens, setup.dtype, device);
      BenchRow row = device.measure(problem.flops(), [&] { problem.run(stream); });
      row.labels = {{"part", std::string(product.part)},
                    {"rows", tokens},
                    {"in", product.in},
                    {"out", product.out},
                    {"dtype", std::string(name(setup.dtype))}};
      row.error = std::max(problem.error(0, stream), problem.error(tokens - 1, stream));
      report.add(std::move(row));
    }
  }
  report.close();
}

}  // namespace longtake
