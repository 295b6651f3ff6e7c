// Writes safetensors files for tests, right ones and deliberately wrong ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/tensor.h"

namespace longtake::testing {

struct NamedTensor {
  std::string name;
  OwnedTensor data;
};

// The tensors one after the other, in the order given.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

// Any header and any data; the length in front is the header's own, or `stated`.
std::string safetensors_bytes(std::string_view header, std::string_view data);
std::string safetensors_bytes(std::string_view header, std::string_view data, uint64_t stated);

void write_bytes(const std::filesystem::path& path, std::string_view bytes);

}  // namespace longtake::testing
