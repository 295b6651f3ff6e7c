#include "kernels/cuda/gemm_plan.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/error.h"

namespace longtake::cuda {

namespace {

using Epilogue = GemmArgs::Epilogue;

// 16 bytes are what the fastest loads need. More is not told apart, so that an algorithm does not
// depend on where in its buffer a matrix starts.
uint32_t alignment(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data) | 16;
  return static_cast<uint32_t>(address & (~address + 1));
}

cudaDataType data_type(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// With a single row the stride is never used; cuBLASLt wants it as long as the row.
int64_t stride(int64_t ld, int64_t rows, int64_t columns) {
  return rows == 1 ? std::max(ld, columns) : ld;
}

const char* name(Epilogue e) {
  return e == Epilogue::none ? "none" : e == Epilogue::bias ? "bias" : "bias_gelu";
}

}  // namespace

GemmKey::GemmKey(const GemmArgs& g)
    : values{g.m,
             g.n,
             g.k,
             stride(g.lda, g.m, g.k),
             stride(g.ldw, g.n, g.k),
             stride(g.ldd, g.m, g.n),
             static_cast<int64_t>(g.in),
             static_cast<int64_t>(g.out),
             static_cast<int64_t>(g.epilogue),
             g.accumulate,
             alignment(g.a),
             alignment(g.w),
             alignment(g.d),
             g.epilogue == Epilogue::none ? 0 : alignment(g.bias)} {}

std::string GemmKey::text(const std::string& gpu, size_t version) const {
  const auto& v = values;
  return fmt::format("{}|cublasLt {}|{}x{}x{}|ld {},{},{}|{}->{}|{}{}|align {},{},{},{}", gpu,
                     version, v[0], v[1], v[2], v[3], v[4], v[5],
                     longtake::name(static_cast<DType>(v[6])),
                     longtake::name(static_cast<DType>(v[7])), name(static_cast<Epilogue>(v[8])),
                     v[9] ? "+" : "", v[10], v[11], v[12], v[13]);
}

GemmPlan::Owned<cublasLtMatrixLayout_t> GemmPlan::layout(DType dtype, int64_t rows, int64_t columns,
                                                         int64_t ld) {
  cublasLtMatrixLayout_t out = nullptr;
  const CublasLt& lt = CublasLt::get();
  lt.check(lt.layout_create(&out, data_type(dtype), static_cast<uint64_t>(columns),
                            static_cast<uint64_t>(rows), stride(ld, rows, columns)),
           "cublasLtMatrixLayoutCreate");
  return Owned<cublasLtMatrixLayout_t>(out);
}

// Row-major D = A W^T is column-major D^T = W A^T: cuBLASLt's first operand is W, transposed, its
// m is n, and a bias per row of its D is one per column of ours.
GemmPlan::GemmPlan(const GemmArgs& g)
    : f32_(g.in == DType::f32),
      bias_(g.epilogue != Epilogue::none),
      beta_(g.accumulate ? 1.0f : 0.0f),
      w_(layout(g.in, g.n, g.k, g.ldw)),
      a_(layout(g.in, g.m, g.k, g.lda)),
      d_(layout(g.out, g.m, g.n, g.ldd)) {
  const CublasLt& lt = CublasLt::get();
  cublasLtMatmulDesc_t desc = nullptr;
  lt.check(lt.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  desc_.reset(desc);
  const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
  lt.check(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
           "TRANSA");
  lt.check(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain), "TRANSB");
  const cublasLtEpilogue_t epilogue = g.epilogue == Epilogue::none   ? CUBLASLT_EPILOGUE_DEFAULT
                                      : g.epilogue == Epilogue::bias ? CUBLASLT_EPILOGUE_BIAS
                                                                     : CUBLASLT_EPILOGUE_GELU_BIAS;
  lt.check(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
           "EPILOGUE");
}

void GemmPlan::set_bias(const void* bias) const {
  if (!bias_) return;
  const CublasLt& lt = CublasLt::get();
  lt.check(lt.desc_set(desc_.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
           "BIAS_POINTER");
}

std::vector<cublasLtMatmulAlgo_t> GemmPlan::algorithms(cublasLtHandle_t handle, const GemmArgs& g,
                                                       int most, bool with_split) const {
  const CublasLt& lt = CublasLt::get();
  cublasLtMatmulPreference_t raw = nullptr;
  lt.check(lt.preference_create(&raw), "cublasLtMatmulPreferenceCreate");
  const Owned<cublasLtMatmulPreference_t> preference(raw);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    lt.check(lt.preference_set(raw, attribute, &value, sizeof value),
             "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g.w));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g.a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(g.d));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(g.d));
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{with_split ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_NONE});
  // Only the alignment of this address is looked at.
  set_bias(reinterpret_cast<const void*>(uintptr_t{alignment(g.bias)}));
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
  int count = 0;
  const cublasStatus_t status = lt.heuristic(handle, desc_.get(), w_.get(), a_.get(), d_.get(),
                                             d_.get(), raw, most, results.data(), &count);
  // What is not offered is answered by either of these, depending on the version.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  lt.check(status, "cublasLtMatmulAlgoGetHeuristic");
  std::vector<cublasLtMatmulAlgo_t> out;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& r = results[static_cast<size_t>(i)];
    if (r.state == CUBLAS_STATUS_SUCCESS && r.workspaceSize <= kWorkspaceBytes)
      out.push_back(r.algo);
  }
  return out;
}

bool GemmPlan::fixed_order(const cublasLtMatmulAlgo_t& algorithm) const {
  const CublasLt& lt = CublasLt::get();
  size_t written = 0;
  int32_t split = 0;
  uint32_t reduction = 0;
  uint64_t flags = 0;
  // An algorithm that does not know one of these has nothing to say there.
  (void)lt.algo_config(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, &written);
  (void)lt.algo_config(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction,
                       sizeof reduction, &written);
  (void)lt.algo_cap(&algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags, sizeof flags,
                    &written);
  constexpr uint64_t kLess =
      CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32 | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF |
      CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F;
  const bool less =
      f32_ ? (flags & kLess) != 0 : (flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F) != 0;
  return (split == 0 || split == 1) && reduction == CUBLASLT_REDUCTION_SCHEME_NONE && !less;
}

bool GemmPlan::accepts(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) const {
  cublasLtMatmulHeuristicResult_t result{};
  return CublasLt::get().algo_check(handle, desc_.get(), w_.get(), a_.get(), d_.get(), d_.get(),
                                    &algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

cublasStatus_t GemmPlan::launch(cublasLtHandle_t handle, const GemmArgs& g, void* d,
                                const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                                CUstream_st* stream) const {
  set_bias(g.bias);
  const float one = 1;
  return CublasLt::get().matmul(handle, desc_.get(), &one, g.w, w_.get(), g.a, a_.get(), &beta_, d,
                                d_.get(), d, d_.get(), &algorithm, workspace, kWorkspaceBytes,
                                stream);
}

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm) {
  std::string out;
  for (const uint64_t word : algorithm.data) out += fmt::format("{:016x}", word);
  return out;
}

cublasLtMatmulAlgo_t algorithm_of_hex(const std::string& digits) {
  cublasLtMatmulAlgo_t out{};
  constexpr size_t kWords = std::size(decltype(out.data){}), kDigits = 16;
  if (digits.size() != kWords * kDigits ||
      digits.find_first_not_of("0123456789abcdef") != std::string::npos)
    fail(ExitCode::bad_data, "expected an algorithm of {} hexadecimal digits, found \"{}\"",
         kWords * kDigits, digits);
  for (size_t i = 0; i < kWords; ++i)
    out.data[i] = std::stoull(digits.substr(i * kDigits, kDigits), nullptr, 16);
  return out;
}

}  // namespace longtake::cuda
