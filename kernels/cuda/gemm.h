// Matrix products by cuBLASLt. Only algorithms with one fixed order of accumulation are taken (no
// split of k), and which one depends on the product's shape, types and alignment alone: the first
// that cuBLASLt names, or the one in the process's table. tune(true) fills the table by timing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// D[m, n] = activation(A[m, k] W[n, k]^T + beta C[m, n] + bias[n]), all row-major; f32
// accumulation. C is D; beta is 1 with `accumulate`, else 0.
struct GemmArgs {
  enum class Epilogue { none, bias, bias_gelu };  // gelu in its tanh form

  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t lda = 0;  // elements between rows
  const void* w = nullptr;
  int64_t ldw = 0;
  DType in = DType::bf16;  // of A and W: f32 (true f32 arithmetic, no TF32) or bf16
  void* d = nullptr;
  int64_t ldd = 0;
  DType out = DType::bf16;  // of D and C
  bool accumulate = false;  // D += ...
  Epilogue epilogue = Epilogue::none;
  const void* bias = nullptr;  // of type `out`
};

class Gemm {
 public:
  // `plain` is a small kernel of our own: slow, for any shape, and the one that is taken when
  // cuBLASLt has no algorithm for a product.
  enum class Provider { library, plain };

  explicit Gemm(Stream& stream);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void run(const GemmArgs& args) { run(args, Provider::library); }
  void run(const GemmArgs& args, Provider provider);
  // Does cuBLASLt have an algorithm for it?
  bool in_library(const GemmArgs& args);

  // Of the process. With tuning, a product that is not in the table is timed when first met, on its
  // own operands (D is not touched), and the fastest algorithm enters the table. Processes that
  // must agree in every bit share one table and do not tune.
  static void tune(bool on);
  static std::string table();                       // JSON
  static void load_table(const std::string& text);  // entries of other GPUs are kept, not used

  // What cuBLASLt offers for a product, timed; for benches.
  struct Candidate {
    int id = 0, tile = 0, stages = 0, split_k = 0;
    bool fixed_order = false;  // may be chosen by run()
    double seconds = 0;        // HUGE_VAL: refused to run
  };
  std::vector<Candidate> time_candidates(const GemmArgs& args);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longtake::cuda
