#include "launch/precomputed.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"

namespace longtake {

namespace {

OwnedTensor read_floats(const SafetensorsFile& file, const std::string& key) {
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.name != key) continue;
    if (entry.dtype != DType::f32)
      fail(ExitCode::bad_data, "{}: {} must be F32, found {}", file.path().string(), key,
           entry.type);
    OwnedTensor out(DType::f32, entry.shape);
    file.read(entry, 0, entry.bytes, out.view().data);
    const float* x = out.as<float>();
    if (!std::all_of(x, x + out.numel(), [](float v) { return std::isfinite(v); }))
      fail(ExitCode::bad_data, "{}: {} holds NaN or infinity", file.path().string(), key);
    return out;
  }
  fail(ExitCode::bad_data, "{}: expected an array {}, found none", file.path().string(), key);
}

}  // namespace

PrecomputedText::PrecomputedText(const std::filesystem::path& path, const TransformerConfig& config)
    : file_(path), most_rows_(config.text_length), width_(config.text_dim) {}

OwnedTensor PrecomputedText::read(const std::string& key) const {
  OwnedTensor text = read_floats(file_, key);
  if (text.shape().rank() != 2 || text.dim(0) > most_rows_ || text.dim(1) != width_)
    fail(ExitCode::bad_data, "{}: {} must be [at most {}, {}], found {}", file_.path().string(),
         key, most_rows_, width_, text.shape().text());
  return text;
}

OwnedTensor PrecomputedText::prompt(int64_t index) const {
  return read("text." + std::to_string(index));
}

OwnedTensor PrecomputedText::negative() const {
  return read("uncond");
}

OwnedTensor read_noise(const std::filesystem::path& path, int64_t block, const Shape& shape) {
  const std::string key = "noise." + std::to_string(block);
  OwnedTensor noise = read_floats(SafetensorsFile(path), key);
  if (noise.shape() != shape)
    fail(ExitCode::bad_data, "{}: {} must be {}, found {}", path.string(), key, shape.text(),
         noise.shape().text());
  return noise;
}

}  // namespace longtake
