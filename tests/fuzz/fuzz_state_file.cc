// Any bytes as a state file whose hash is right: it is read or refused.
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "kernels/base/error.h"
#include "runtime/stream/run_identity.h"
#include "runtime/stream/sha256.h"
#include "runtime/stream/state_file.h"

namespace {

namespace fs = std::filesystem;

// A run without commits, of which this process needs one.
fs::path make_run() {
  const fs::path run = fs::temp_directory_path() / ("fuzz_state_" + std::to_string(::getpid()));
  fs::create_directories(run / "state");
  longtake::RunIdentity id;
  id.frames = id.channels = id.height = id.width = 1;
  std::ofstream(run / "RUN.json") << longtake::to_json(id);
  std::ofstream(run / "COMMIT");
  return run;
}

}  // namespace

// libhdf5 leaks a little for every file that it refuses.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  static const fs::path run = make_run();
  static const LatentReader reader(run);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CommittedState state;
  state.sweep = 1;
  state.files.push_back({state_file_name(1, 1, 0), size, sha256_hex(text)});
  std::ofstream(run / state.files[0].file, std::ios::binary) << text;
  if (!check_state_files(run, state).empty()) std::abort();
  try {
    const StateFiles files(reader, state);
    OwnedTensor to(DType::f32, {2, 4});
    files.read("x", to);
    files.read_layers("y", 0, to);
  } catch (const Error&) {
    // Refused.
  }
  return 0;
}
