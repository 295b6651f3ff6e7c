// Safetensors files of random weights with the names and shapes of real models, of any size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/shape.h"
#include "runtime/model/model_config.h"

namespace longtake {

// Normally distributed values.
struct RandomTensor {
  std::string name;
  Shape shape;
  float deviation = 0;
  float mean = 0;
};

// Weights [out, in] of deviation 1 / sqrt(in) keep the size of what they multiply.
std::vector<RandomTensor> transformer_tensors(const TransformerConfig& config);
std::vector<RandomTensor> text_encoder_tensors(const TextEncoderConfig& config);

// `dtype`: f32 or bf16.
void write_random_weights(const std::filesystem::path& path, std::span<const RandomTensor> tensors,
                          DType dtype, uint64_t seed);

// A folder in `place`, by default the system's for temporary files, gone with the object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& place = {});
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace longtake
