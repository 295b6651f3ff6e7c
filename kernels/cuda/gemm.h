// Matrix products by cuBLASLt. The algorithm of each (shape, types, epilogue) is chosen by timing
// once per process and kept; with `deterministic` choice the same one is taken on every rank.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/base/dtype.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// D[m, n] = activation(A[m, k] W[n, k]^T + bias[n]) + beta C[m, n], all row-major; f32
// accumulation.
struct GemmArgs {
  enum class Epilogue { none, bias, bias_gelu };

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
  explicit Gemm(Stream& stream);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void run(const GemmArgs& args);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longtake::cuda
