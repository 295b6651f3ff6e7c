// A small run for the tests of the store.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "runtime/stream/latent_store.h"
#include "tests/support/random.h"

namespace longtake::testing {

inline RunIdentity sample_identity() {
  RunIdentity id;
  id.version = "0.1.0";
  id.configuration = "steps: 20\n";
  id.fingerprint = "model: tiny\nsteps: 20\n";
  id.model = "Wan2.1 T2V";
  id.prompts = {{0, "a red circle"}, {12, "ein blaues Quadrat, größer"}};
  id.seed = 7;
  id.video_frames = 21;
  id.frames = 6, id.channels = 4, id.height = 6, id.width = 5;
  return id;
}

inline OwnedTensor sample_block(int64_t frames, uint64_t seed) {
  return random_tensor({frames, 4, 6, 5}, seed);
}

// Three blocks of 2, 3 and 1 frames, seeds 1 to 3.
inline void fill(LatentStore& store) {
  store.append(sample_block(2, 1));
  store.append(sample_block(3, 2));
  store.append(sample_block(1, 3));
}

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

inline void overwrite(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace longtake::testing
