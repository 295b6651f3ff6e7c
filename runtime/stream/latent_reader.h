// The reading side of a run folder, also while the run goes on. A block file is opened by libhdf5
// only after its size and SHA-256 were found to be those of COMMIT.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/tensor.h"
#include "runtime/stream/commit_log.h"
#include "runtime/stream/run_identity.h"

namespace longtake {

// A block's file after size and hash were found to be those of COMMIT: f32 [frames, channels,
// height, width].
OwnedTensor read_committed(const std::filesystem::path& run, const CommittedBlock& block,
                           const RunIdentity& identity);

class LatentReader {
 public:
  static constexpr uint64_t kDescriptionLimit = uint64_t{16} << 20;
  static constexpr uint64_t kLogLimit = uint64_t{1} << 30;

  explicit LatentReader(const std::filesystem::path& run);

  void refresh();  // takes in what was committed since
  const std::filesystem::path& path() const { return run_; }
  // With the length, prompts and configuration of the last extension.
  const RunIdentity& identity() const { return identity_; }
  const CommitLog& log() const { return log_; }
  const std::vector<CommittedBlock>& blocks() const { return log_.blocks; }
  int64_t frames() const;  // latent frames committed
  bool complete() const { return frames() == identity_.frames; }
  // Complete, and the report, which comes last, is written: nothing is left to do.
  bool ended() const;

  // Size and hash of a block's file; fails naming file and block.
  void check_file(size_t block) const;
  // f32 [frames, channels, height, width], checked as above.
  OwnedTensor read(size_t block) const;
  // Frames of one block or of several that follow each other, all committed.
  OwnedTensor read_frames(int64_t first_frame, int64_t frames) const;
  // Over the float32 latents of all blocks in order: reads them all.
  std::string latents_sha256() const;

 private:
  void apply_extensions();

  std::filesystem::path run_;
  RunIdentity described_, identity_;  // by RUN.json, and now
  std::string anchor_;
  CommitLog log_;
};

}  // namespace longtake
