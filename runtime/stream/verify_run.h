// Checks a run folder against its commit log; never changes anything.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace longtake {

struct VerifyReport {
  std::vector<std::string> problems;  // what is damaged
  std::vector<std::string> notes;     // what is merely noteworthy
  int64_t blocks = 0;
  int64_t states = 0;                       // that an unfinished run could go on from
  int64_t frames = 0, frames_expected = 0;  // latent frames
  uint64_t bytes = 0;                       // of the block files
  std::string latents_sha256;               // with `full`, when nothing is damaged
};

// Log, sizes and SHA-256 of every block, and of the newest two states of an unfinished run. With
// `full` every block is also read, its numbers are checked for NaN and infinity, and latents_sha256
// is computed.
VerifyReport verify_run(const std::filesystem::path& run, bool full);

}  // namespace longtake
