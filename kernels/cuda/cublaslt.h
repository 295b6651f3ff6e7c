// The functions of cuBLASLt that are used, by their own types. Opened when first asked for.
#pragma once

#include <cublasLt.h>

#include "kernels/cuda/library.h"

namespace longtake::cuda {

struct CublasLt {
  // Fails with the reason when there is no cuBLASLt.
  static const CublasLt& get();
  // Fails with the call and the status's name.
  void check(cublasStatus_t status, const char* call) const;

  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) version;
  decltype(&::cublasLtGetStatusName) status_name;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&::cublasLtMatmulAlgoCheck) algo_check;
  decltype(&::cublasLtMatmulAlgoCapGetAttribute) algo_cap;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) algo_config;

 private:
  CublasLt();
  Library library_;
};

}  // namespace longtake::cuda
