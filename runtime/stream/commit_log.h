// COMMIT: one line per commit, the only truth about which blocks a run holds. A line is canonical
// JSON and the CRC-32 of it; each names the SHA-256 of the line before, the first that of RUN.json,
// so that lines can neither be lost in the middle nor come from another run.
//
// The first line of a finished run that is made longer says so: from it on what RUN.json tells of
// the video's length, prompts and configuration is replaced. States before it are void.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/stream/run_identity.h"

namespace longtake {

struct CommittedBlock {
  int64_t index = 0;
  int64_t first_frame = 0;  // latent frames
  int64_t frames = 0;
  std::string file;  // "out/b00000042.h5"
  uint64_t bytes = 0;
  std::string sha256;
};

// The state of the queue before a sweep: a file of every rank that wrote some of it.
struct StateFile {
  std::string file;  // "state/e0001.s00000017.r0003.h5"
  uint64_t bytes = 0;
  std::string sha256;
};
struct CommittedState {
  int64_t sweep = 0;
  std::vector<StateFile> files;
};

// A finished run is made longer.
struct Extension {
  int64_t first_block = 0;      // of the new part
  int64_t finished_frames = 0;  // latent frames of the blocks before
  int64_t frames = 0;           // in all from now on
  int64_t video_frames = 0;     // the same
  std::vector<PromptAt> prompts;
  std::string fingerprint, configuration;
};

struct CommitRecord {
  int64_t seq = 0;  // 1, 2, ...
  int64_t epoch =
      0;  // how often the run was opened for writing: fences a writer that lost its lock
  std::vector<CommittedBlock> blocks;
  std::optional<CommittedState> state;
  std::string prev;
  std::optional<Extension> extension;  // before the blocks
};

struct CommitLog {
  std::vector<CommitRecord> records;
  std::vector<CommittedBlock> blocks;  // of all records
  std::vector<CommittedState> states;  // since the last extension
  std::vector<Extension> extensions;
  size_t valid_bytes = 0;
  std::string head;      // SHA-256 of the last line that holds: `prev` of the next one
  std::string problem;   // what is wrong with the first line that does not hold; empty: nothing
  bool torn = false;     // nothing follows that line: a commit that never happened
  bool newline = false;  // that line is complete, so it is not merely still being written
};

// `identity` as it is from the extension on, and the extension that makes it so.
void extend(RunIdentity& identity, const Extension& extension);
Extension extension_to(const RunIdentity& identity, int64_t first_block, int64_t finished_frames);

std::string block_file_name(int64_t index);
std::string state_file_name(int64_t epoch, int64_t sweep, int64_t rank);
std::string commit_line(const CommitRecord& record);  // with CRC and newline
// `anchor`: the SHA-256 of RUN.json. Never fails: what does not hold ends the log.
CommitLog parse_commit_log(std::string_view text, const std::string& anchor);

}  // namespace longtake
