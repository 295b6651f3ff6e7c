// Any bytes as a safetensors file: the header is refused with an Error of bad data, or its tensors
// tile the file exactly.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "kernels/base/error.h"
#include "runtime/model/safetensors.h"

namespace {

void check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  try {
    const auto entries = parse_safetensors(std::as_bytes(std::span(data, size)), size, "fuzz");
    uint64_t end = entries.empty() ? size : entries.front().offset;
    for (const SafetensorsEntry& entry : entries) {
      check(entry.offset == end && entry.bytes <= size - entry.offset);
      if (entry.dtype)
        check(static_cast<uint64_t>(entry.shape.numel()) * size_bytes(*entry.dtype) == entry.bytes);
      end += entry.bytes;
    }
    check(end == size);
  } catch (const Error& error) {
    check(error.code() == ExitCode::bad_data);
  }
  return 0;
}
