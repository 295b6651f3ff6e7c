#include "kernels/cuda/cublaslt.h"

#include "kernels/base/error.h"

namespace longtake::cuda {

CublasLt::CublasLt() : library_({"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
  library_.load(create, "cublasLtCreate");
  library_.load(destroy, "cublasLtDestroy");
  library_.load(version, "cublasLtGetVersion");
  library_.load(status_name, "cublasLtGetStatusName");
  library_.load(matmul, "cublasLtMatmul");
  library_.load(layout_create, "cublasLtMatrixLayoutCreate");
  library_.load(layout_destroy, "cublasLtMatrixLayoutDestroy");
  library_.load(desc_create, "cublasLtMatmulDescCreate");
  library_.load(desc_destroy, "cublasLtMatmulDescDestroy");
  library_.load(desc_set, "cublasLtMatmulDescSetAttribute");
  library_.load(preference_create, "cublasLtMatmulPreferenceCreate");
  library_.load(preference_destroy, "cublasLtMatmulPreferenceDestroy");
  library_.load(preference_set, "cublasLtMatmulPreferenceSetAttribute");
  library_.load(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  library_.load(algo_check, "cublasLtMatmulAlgoCheck");
  library_.load(algo_cap, "cublasLtMatmulAlgoCapGetAttribute");
  library_.load(algo_config, "cublasLtMatmulAlgoConfigGetAttribute");
}

const CublasLt& CublasLt::get() {
  static const CublasLt functions;
  return functions;
}

void CublasLt::check(cublasStatus_t status, const char* call) const {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ExitCode::error, "{}: cuBLASLt says {}", call, status_name(status));
}

}  // namespace longtake::cuda
