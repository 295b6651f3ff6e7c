#include "launch/input_digest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "kernels/base/isa.h"
#include "launch/version.h"
#include "launch/work_device.h"
#include "runtime/model/weights_files.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/sha256.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

// Changed whenever the same input gives other bits.
constexpr int kNumericsVersion = 1;
constexpr uint64_t kEnd = uint64_t{1} << 20, kPiece = 4096, kPieces = 64;

// The first and last MiB, and pieces of 4 KiB in between.
void add_file(const fs::path& path, Sha256& hash) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return;  // whoever reads it says what is wrong with it
  const OpenFile file(path, O_RDONLY, ExitCode::missing_input);
  const uint64_t size = file.size();
  hash.update(&size, sizeof size);
  std::vector<char> buffer(kEnd);
  const auto add = [&](uint64_t from, uint64_t bytes) {
    bytes = std::min(bytes, size - from);
    for (uint64_t done = 0; done < bytes;) {
      const ssize_t n =
          ::pread(file.descriptor(), buffer.data(), bytes - done, static_cast<off_t>(from + done));
      if (n <= 0) fail_errno(ExitCode::io, "read", path);
      hash.update(buffer.data(), static_cast<size_t>(n));
      done += static_cast<uint64_t>(n);
    }
  };
  add(0, kEnd);
  if (size <= kEnd) return;
  for (uint64_t i = 1; i < kPieces; ++i) add(size / kPieces * i, kPiece);
  add(size - kEnd, kEnd);
}

void add_weights(const fs::path& path, Sha256& hash) {
  const WeightsFiles found = find_weights_files(path);
  for (const std::string& name : found.files) add_file(found.folder / name, hash);
}

}  // namespace

std::string input_digest(const RunConfig& config, const ModelFolder& folder) {
  Sha256 hash;
  add_weights(folder.transformer, hash);
  if (!folder.transformer_2.empty()) add_weights(folder.transformer_2, hash);
  if (config.input.prompt_embeds.empty())
    add_weights(folder.text_encoder, hash);
  else
    add_file(config.input.prompt_embeds, hash);
  if (!config.input.noise.empty()) add_file(config.input.noise, hash);
  return fmt::format("weights: {}\n", hash.hex());
}

std::string numerics(DType compute, DeviceChoice device) {
  if (device == DeviceChoice::cuda)
    return fmt::format("numerics: {} cuda {} {} {}\n", kNumericsVersion, device_name(device),
                       name(compute), cuda::library_versions());
  return fmt::format("numerics: {} cpu {} {} oneDNN {}\n", kNumericsVersion, name(active_isa()),
                     name(compute), onednn_version());
}

std::string attention_numerics(DeviceChoice device) {
  if (device == DeviceChoice::cuda)
    return fmt::format("{} cuda {} {}", kNumericsVersion, device_name(device),
                       cuda::library_versions());
  return fmt::format("{} cpu {}", kNumericsVersion, name(active_isa()));
}

}  // namespace longtake
