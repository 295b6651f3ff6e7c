// One matrix product as cuBLASLt describes it, without its pointers, and the algorithms for it.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm.h"

namespace longtake::cuda {

// Everything an algorithm may depend on.
struct GemmKey {
  std::array<int64_t, 14> values;
  explicit GemmKey(const GemmArgs& args);
  auto operator<=>(const GemmKey&) const = default;
  std::string text(const std::string& gpu, size_t version) const;
};

class GemmPlan {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  explicit GemmPlan(const GemmArgs& args);
  GemmPlan(GemmPlan&&) = default;
  GemmPlan& operator=(GemmPlan&&) = default;

  // At most `most` algorithms for operands aligned as those of `args`, cuBLASLt's favourite first.
  std::vector<cublasLtMatmulAlgo_t> algorithms(cublasLtHandle_t handle, const GemmArgs& args,
                                               int most, bool with_split) const;
  // Sums over k in one order, and for f32 in f32.
  bool fixed_order(const cublasLtMatmulAlgo_t& algorithm) const;
  // Can it run in our workspace?
  bool accepts(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) const;
  cublasStatus_t launch(cublasLtHandle_t handle, const GemmArgs& args, void* d,
                        const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                        CUstream_st* stream) const;

 private:
  struct Destroy {
    void operator()(cublasLtMatmulDesc_t desc) const { CublasLt::get().desc_destroy(desc); }
    void operator()(cublasLtMatrixLayout_t layout) const { CublasLt::get().layout_destroy(layout); }
    void operator()(cublasLtMatmulPreference_t p) const { CublasLt::get().preference_destroy(p); }
  };
  template <class Handle>
  using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;
  static Owned<cublasLtMatrixLayout_t> layout(DType dtype, int64_t rows, int64_t columns,
                                              int64_t ld);
  void set_bias(const void* bias) const;

  bool f32_ = false, bias_ = false;
  float beta_ = 0;
  Owned<cublasLtMatmulDesc_t> desc_;
  Owned<cublasLtMatrixLayout_t> w_, a_, d_;
};

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm);
// Fails with `bad_data` when it is not one.
cublasLtMatmulAlgo_t algorithm_of_hex(const std::string& digits);

}  // namespace longtake::cuda
