// The writing side of a run folder: the latent stream. A block is in the run when `append` returns,
// and not at all if it fails; at every moment in between a reader or a restart sees the state
// before. reliability.md, 1.3: temporary name, write, close, hash, fsync, rename, fsync of the
// folder, then one line in COMMIT with one write and fdatasync, which is the commit point.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/tensor.h"
#include "runtime/stream/commit_log.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/run_identity.h"
#include "runtime/stream/sha256.h"

namespace longtake {

class LatentReader;

class LatentStore {
 public:
  // Creates `run` (0700, for the identity's uuid one is drawn) or opens one with the same
  // fingerprint that has not ended, whose committed blocks are then kept: the next block is number
  // committed_blocks().size(); a run that died between its last block and its report has none. A
  // run without any commit is replaced, and a finished run is made longer if that is all that the
  // identity asks for; it is so from its next commit on, but its report is gone at once. Refused: a
  // folder that is no run, another fingerprint, a finished run, a run that another process writes.
  LatentStore(const std::filesystem::path& run, RunIdentity identity);

  // The next block: f32 [frames, channels, height, width], time first, dense.
  void append(ConstTensor latents);

  // The state of the queue before a sweep, whose files were written and published under their final
  // names; every block that is finished by then was appended. Files of older states go, but for the
  // one before.
  void append_state(const CommittedState& state);

  // Fails unless the committed block holds these bits: a run that is continued makes them again.
  void confirm(int64_t block, ConstTensor latents) const;

  const std::filesystem::path& path() const { return run_; }
  const RunIdentity& identity() const { return identity_; }
  const std::vector<CommittedBlock>& committed_blocks() const { return blocks_; }
  int64_t committed_frames() const;
  int64_t epoch() const { return epoch_; }  // how often the run was opened for writing
  // The newest state whose files hold, when the run was opened; empty: it goes on from the start.
  const std::optional<CommittedState>& resume_state() const { return resume_state_; }
  // Of the last extension, or of the one that this object begins: blocks before it and their
  // frames.
  int64_t first_block() const { return first_block_; }
  int64_t finished_frames() const { return finished_frames_; }
  bool complete() const { return committed_frames() == identity_.frames; }
  // What was found and dropped when the run was opened, for the log; empty: nothing.
  const std::string& notice() const { return notice_; }
  // Over the float32 latents [T, C, h, w] of all blocks in order.
  std::string latents_sha256() const { return latents_hash_.hex(); }
  // Gives the lock back; errors are reported here, not in the destructor.
  void close();
  // For the end of a run that failed: removes the folder if this object made it and COMMIT holds no
  // commit. A folder with a committed block, or one that was there before, stays as it is.
  void discard_unused() noexcept;

 private:
  void open();
  void lock();
  void create();
  void reopen();
  void refuse_or_extend(const LatentReader& reader);
  void open_log(const CommitLog& log);
  void remove_report() const;
  void note_owner();
  void commit(CommitRecord record);
  void choose_state(const std::vector<CommittedState>& states);
  void remove_unreferenced() const;
  void prune_states();
  void refresh_view() const;

  std::filesystem::path run_;
  RunIdentity identity_;
  bool made_ = false;  // the folder was not there before
  std::unique_ptr<OpenFile> lock_, log_;
  std::vector<CommittedBlock> blocks_;
  std::vector<CommittedState> states_;  // whose files are kept
  std::optional<CommittedState> resume_state_;
  int64_t first_block_ = 0, finished_frames_ = 0;
  std::optional<Extension> extension_;  // that the next commit begins
  int64_t records_ = 0;
  int64_t epoch_ = 1;
  std::string head_;
  std::string notice_;
  Sha256 latents_hash_;
  bool failed_ = false;
};

}  // namespace longtake
