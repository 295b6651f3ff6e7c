// Any bytes as a block file whose hash is right: it is read or refused.
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "kernels/base/error.h"
#include "runtime/stream/block_file.h"

// libhdf5 leaks a little for every file that it refuses.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("fuzz_block_" + std::to_string(::getpid()));
  std::ofstream(path, std::ios::binary)
      << std::string_view(reinterpret_cast<const char*>(data), size);
  // Of corpus/block_file/whole.h5.
  RunIdentity identity;
  identity.frames = 4, identity.channels = 2, identity.height = 2, identity.width = 3;
  CommittedBlock block;
  block.index = 1, block.first_frame = 2, block.frames = 2;
  try {
    const OwnedTensor latents = read_block_file(path, block, identity);
    if (latents.shape() != Shape{2, 2, 2, 3}) std::abort();
  } catch (const Error&) {
    // Refused.
  }
  return 0;
}
