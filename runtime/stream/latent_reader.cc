#include "runtime/stream/latent_reader.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "runtime/stream/block_file.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/sha256.h"

namespace longtake {

namespace fs = std::filesystem;

LatentReader::LatentReader(const fs::path& run) : run_(run) {
  std::error_code error;
  if (!fs::exists(run / "RUN.json", error)) {
    fail(ExitCode::missing_input, "{} is not a run of longtake: it holds no RUN.json",
         run.string());
  }
  const std::string text = read_file(run / "RUN.json", kDescriptionLimit);
  described_ = parse_run_identity(text, run / "RUN.json");
  anchor_ = sha256_hex(text);
  refresh();
}

void LatentReader::refresh() {
  log_ = parse_commit_log(read_file(run_ / "COMMIT", kLogLimit), anchor_);
  apply_extensions();
  if (frames() > identity_.frames) {
    fail(ExitCode::bad_data, "{} holds {} latent frames, field {} says {}",
         (run_ / "COMMIT").string(), frames(),
         log_.extensions.empty() ? "`latents` of RUN.json" : "`extension`", identity_.frames);
  }
}

void LatentReader::apply_extensions() {
  identity_ = described_;
  for (const Extension& e : log_.extensions) {
    if (e.finished_frames != identity_.frames)
      fail(ExitCode::bad_data,
           "{}: field `extension` at block {}: expected all {} latent frames before it, "
           "found {}",
           (run_ / "COMMIT").string(), e.first_block, identity_.frames, e.finished_frames);
    extend(identity_, e);
  }
}

int64_t LatentReader::frames() const {
  return blocks().empty() ? 0 : blocks().back().first_frame + blocks().back().frames;
}

bool LatentReader::ended() const {
  std::error_code error;
  return complete() && fs::exists(run_ / "report.json", error);
}

static void check_block_file(const fs::path& run, const CommittedBlock& b) {
  const fs::path path = run / b.file;
  const OpenFile file(path, O_RDONLY, ExitCode::missing_input);
  if (file.size() != b.bytes) {
    fail(ExitCode::bad_data, "{} (block {}) holds {} bytes, COMMIT says {}", path.string(), b.index,
         file.size(), b.bytes);
  }
  const FileDigest found = digest(file);
  if (found.sha256 != b.sha256) {
    fail(ExitCode::bad_data, "{} (block {}) is damaged: its SHA-256 is {}, COMMIT says {}",
         path.string(), b.index, found.sha256, b.sha256);
  }
}

OwnedTensor read_committed(const fs::path& run, const CommittedBlock& block,
                           const RunIdentity& identity) {
  check_block_file(run, block);
  return read_block_file(run / block.file, block, identity);
}

void LatentReader::check_file(size_t block) const {
  check_block_file(run_, blocks().at(block));
}

OwnedTensor LatentReader::read(size_t block) const {
  return read_committed(run_, blocks().at(block), identity_);
}

OwnedTensor LatentReader::read_frames(int64_t first_frame, int64_t count) const {
  LT_CHECK(0 <= first_frame && count >= 1 && first_frame + count <= frames(),
           "{}: latent frames {} to {} are not all committed", (run_ / "COMMIT").string(),
           first_frame, first_frame + count - 1);
  OwnedTensor out(DType::f32, {count, identity_.channels, identity_.height, identity_.width});
  for (size_t i = 0; i < blocks().size(); ++i) {
    const CommittedBlock& b = blocks()[i];
    const int64_t begin = std::max(first_frame, b.first_frame),
                  end = std::min(first_frame + count, b.first_frame + b.frames);
    if (begin >= end) continue;
    const OwnedTensor block = read(i);
    const ConstTensor from = block.view().rows(begin - b.first_frame, end - b.first_frame);
    const Tensor to = out.view().rows(begin - first_frame, end - first_frame);
    std::memcpy(to.data, from.data, to.bytes());
  }
  return out;
}

std::string LatentReader::latents_sha256() const {
  Sha256 hash;
  for (size_t i = 0; i < blocks().size(); ++i) {
    const OwnedTensor latents = read(i);
    hash.update(latents.as<float>(), latents.bytes());
  }
  return hash.hex();
}

}  // namespace longtake
