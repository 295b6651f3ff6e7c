// Named tensors of a model part, read from safetensors: one file, or shards with an index. Names
// are the diffusers (for the text encoder: transformers) names, whatever the files use;
// wan.md 2.5, 4.4, 5.5.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "kernels/linear.h"

namespace longtake {

enum class WeightsOf { transformer, vae, text_encoder };

class Weights {
 public:
  // `path`: a .safetensors file or a folder that holds them. Only headers are read here.
  Weights(const std::filesystem::path& path, WeightsOf part);
  ~Weights();
  Weights(Weights&&) noexcept;
  Weights& operator=(Weights&&) noexcept;

  bool has(const std::string& name) const;
  Shape shape(const std::string& name) const;
  DType dtype(const std::string& name) const;
  std::vector<std::string> names() const;  // sorted
  size_t bytes() const;                    // of all tensors, as stored

  // A tensor in `dtype` (f32 or bf16) on the stream's device. Fails, naming tensor and file, when
  // it is absent, has another shape, an unsupported type, or holds NaN or infinity.
  OwnedTensor read(const std::string& name, const Shape& expected, DType dtype,
                   StreamRef stream) const;

  // The given rows alone of a tensor [n, ...], in their order; the others are not read.
  OwnedTensor read_rows(const std::string& name, const Shape& expected,
                        std::span<const int32_t> rows, DType dtype, StreamRef stream) const;

  // `prefix`.weight [out, in] (or with `in` split over several dimensions) and, when `bias`,
  // `prefix`.bias [out], packed for `compute`.
  Linear linear(const std::string& prefix, int64_t out, int64_t in, bool bias, DType compute,
                StreamRef stream) const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

}  // namespace longtake
