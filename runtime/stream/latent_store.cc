#include "runtime/stream/latent_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "runtime/stream/block_file.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/state_file.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

bool is_temporary(const fs::path& path) {
  return path.filename().string().starts_with(kTemporaryPrefix);
}

// Says whether the folder is new.
bool make_folder(const fs::path& path) {
  const bool made = ::mkdir(path.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) fail_errno(ExitCode::cannot_create, "create folder", path);
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    fail(ExitCode::cannot_create, "cannot create folder {}: a file of that name exists",
         path.string());
  }
  return made;
}

bool make_run_folder(const fs::path& run) {
  const fs::path parent = run.parent_path();
  std::error_code error;
  if (!parent.empty()) fs::create_directories(parent, error);
  if (error) {
    fail(ExitCode::cannot_create, "cannot create folder {}: {}", parent.string(), error.message());
  }
  const bool made = make_folder(run);
  sync_directory(parent);
  return made;
}

// Also true when that cannot be known.
bool may_hold_a_commit(const fs::path& run) {
  std::error_code error;
  const bool log = fs::exists(run / "COMMIT", error);
  if (error || !log) return static_cast<bool>(error);
  // A line without an end is no commit.
  return read_file(run / "COMMIT", LatentReader::kLogLimit).find('\n') != std::string::npos;
}

// A folder without RUN.json may hold only what an interrupted creation leaves.
void refuse_foreign_folder(const fs::path& run) {
  std::error_code error;
  if (fs::exists(run / "RUN.json", error)) return;
  for (const auto& entry : fs::directory_iterator(run, error)) {
    const std::string name = entry.path().filename().string();
    if (name == "COMMIT" && !may_hold_a_commit(run)) continue;
    if (name != "LOCK" && name != "out" && name != "state" && !is_temporary(entry.path())) {
      fail(ExitCode::cannot_create, "{} is not empty and is not a run of longtake: it holds {}",
           run.string(), name);
    }
  }
  if (error) {
    fail(ExitCode::cannot_create, "cannot list {}: {}", run.string(), error.message());
  }
}

void sweep(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_temporary(entry.path()) && ::unlink(entry.path().c_str()) != 0) {
      fail_errno(ExitCode::io, "remove", entry.path());
    }
  }
}

}  // namespace

LatentStore::LatentStore(const fs::path& run, RunIdentity identity)
    : run_(run.has_filename() ? run : run.parent_path()), identity_(std::move(identity)) {
  try {
    open();
  } catch (...) {
    discard_unused();
    throw;
  }
}

void LatentStore::open() {
  made_ = make_run_folder(run_);
  refuse_foreign_folder(run_);
  lock();
  sweep(run_);
  make_folder(run_ / "out");
  sweep(run_ / "out");
  make_folder(run_ / "state");
  sweep(run_ / "state");
  std::error_code error;
  if (fs::exists(run_ / "RUN.json", error)) {
    reopen();
  } else {
    create();
  }
  remove_unreferenced();
  note_owner();
  refresh_view();
}

// What was published but never committed: a writer died in between.
void LatentStore::remove_unreferenced() const {
  std::set<std::string> kept;
  for (const CommittedBlock& block : blocks_) kept.insert(block.file);
  for (const CommittedState& state : states_)
    for (const StateFile& file : state.files) kept.insert(file.file);
  for (const char* folder : {"out", "state"}) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(run_ / folder, error)) {
      const std::string name = fmt::format("{}/{}", folder, entry.path().filename().string());
      if (name.ends_with(".h5") && !kept.contains(name) && ::unlink(entry.path().c_str()) != 0)
        fail_errno(ExitCode::io, "remove", entry.path());
    }
  }
}

void LatentStore::lock() {
  auto file = std::make_unique<OpenFile>(run_ / "LOCK", O_RDWR | O_CREAT, ExitCode::cannot_create);
  if (::flock(file->descriptor(), LOCK_EX | LOCK_NB) == 0) {
    lock_ = std::move(file);
    return;
  }
  if (errno != EWOULDBLOCK) fail_errno(ExitCode::cannot_create, "lock", file->path());
  std::string owner = read_file(file->path(), 4096);
  if (!owner.empty()) owner.pop_back();
  fail(ExitCode::cannot_create, "{} is being written by another process ({})", run_.string(),
       owner);
}

void LatentStore::create() {
  identity_.uuid = new_uuid();
  const std::string text = to_json(identity_);
  head_ = sha256_hex(text);
  // COMMIT before RUN.json: a folder with RUN.json is complete.
  log_ = std::make_unique<OpenFile>(run_ / "COMMIT", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
                                    ExitCode::cannot_create);
  log_->sync();
  sync_directory(run_);
  replace_file(run_ / "RUN.json", text);
}

void LatentStore::reopen() {
  const LatentReader reader(run_);
  const CommitLog& log = reader.log();
  const bool same = reader.identity().fingerprint == identity_.fingerprint;
  const bool nothing_committed = log.records.empty() && (log.problem.empty() || log.torn);
  if (!same && nothing_committed) return create();
  if (!log.problem.empty() && !log.torn) {
    fail(ExitCode::bad_data,
         "{}: {}; lines follow it, so this is damage, not an interrupted commit",
         (run_ / "COMMIT").string(), log.problem);
  }
  if (!log.extensions.empty()) {
    first_block_ = log.extensions.back().first_block;
    finished_frames_ = log.extensions.back().finished_frames;
  }
  if (!same) {
    refuse_or_extend(reader);
  } else if (reader.ended()) {
    fail(ExitCode::cannot_create,
         "{} holds a finished run of {} frames; ask for more to make it longer, or choose another "
         "output folder",
         run_.string(), reader.identity().video_frames);
  } else {
    identity_ = reader.identity();
  }
  for (size_t i = 0; i < reader.blocks().size(); ++i) {
    const OwnedTensor latents = reader.read(i);
    latents_hash_.update(latents.as<float>(), latents.bytes());
  }
  blocks_ = log.blocks;
  if (!extension_) choose_state(log.states);  // those of the finished run are done with
  records_ = static_cast<int64_t>(log.records.size());
  head_ = log.head;
  epoch_ = log.records.empty() ? 1 : log.records.back().epoch + 1;
  open_log(log);
  if (!complete()) remove_report();
}

// The identity asked for is another one: only a longer video of a finished run will do.
void LatentStore::refuse_or_extend(const LatentReader& reader) {
  const RunIdentity& found = reader.identity();
  std::string problem = extension_problem(found, identity_);
  if (problem.empty() && !reader.complete())
    problem = fmt::format(
        "`video.frames: {}` in the run, `video.frames: {}` now, and only a "
        "finished run is made longer: finish this one first (longtake resume)",
        found.video_frames, identity_.video_frames);
  if (!problem.empty())
    fail(ExitCode::cannot_create,
         "{} holds a run with another configuration: {}; choose another output folder",
         run_.string(), problem);
  first_block_ = static_cast<int64_t>(reader.blocks().size());
  finished_frames_ = reader.frames();
  extension_ = extension_to(identity_, first_block_, finished_frames_);
  identity_ = found;
  extend(identity_, *extension_);
}

// What is true of a finished run is not of one that is made longer.
void LatentStore::remove_report() const {
  if (::unlink((run_ / "report.json").c_str()) == 0) return sync_directory(run_);
  if (errno != ENOENT) fail_errno(ExitCode::io, "remove", run_ / "report.json");
}

void LatentStore::open_log(const CommitLog& log) {
  log_ = std::make_unique<OpenFile>(run_ / "COMMIT", O_WRONLY | O_APPEND, ExitCode::io);
  if (log_->size() == log.valid_bytes) {
    // A process that was killed between writing its last line and syncing it left a line that holds
    // but that a power cut could still take: nothing may be removed on its word before it is safe.
    log_->sync();
    return;
  }
  notice_ += fmt::format("{}{}: {}; an interrupted commit of {} bytes was dropped",
                         notice_.empty() ? "" : "\n", (run_ / "COMMIT").string(), log.problem,
                         log_->size() - log.valid_bytes);
  log_->truncate(log.valid_bytes);
  log_->sync();
}

// The last two are kept in full; the newer one that holds is where the run goes on.
void LatentStore::choose_state(const std::vector<CommittedState>& states) {
  const size_t kept = std::min(kStatesKept, states.size());
  states_.assign(states.end() - static_cast<std::ptrdiff_t>(kept), states.end());
  if (complete()) return;
  const StateChoice choice = longtake::choose_state(run_, states);
  resume_state_ = choice.state;
  if (choice.lost.empty()) return;
  for (const std::string& lost : choice.lost) notice_ += lost + "\n";
  notice_ += resume_state_
                 ? fmt::format("going on from the state before sweep {}", resume_state_->sweep)
                 : "going on from the start; finished blocks are made again and compared";
}

void LatentStore::note_owner() {
  char host[256] = "";
  (void)::gethostname(host, sizeof host - 1);
  lock_->truncate(0);
  lock_->write(fmt::format("host {}, process {}, epoch {}\n", host, ::getpid(), epoch_));
}

int64_t LatentStore::committed_frames() const {
  return blocks_.empty() ? 0 : blocks_.back().first_frame + blocks_.back().frames;
}

void LatentStore::append(ConstTensor latents) {
  LT_CHECK(log_, "the latent store is closed");
  LT_CHECK(!failed_, "the latent store failed before; its last commit stays valid");
  const RunIdentity& id = identity_;
  LT_CHECK(latents.rank() == 4 && latents.dtype == DType::f32 && latents.dense() &&
               latents.dim(0) >= 1 && committed_frames() + latents.dim(0) <= id.frames &&
               latents.dim(1) == id.channels && latents.dim(2) == id.height &&
               latents.dim(3) == id.width,
           "expected dense f32 latents [1 to {}, {}, {}, {}], found {} {}",
           id.frames - committed_frames(), id.channels, id.height, id.width, name(latents.dtype),
           latents.shape.text());
  failed_ = true;
  check_free_space(run_, latents.bytes());  // the view and the video need some too
  CommittedBlock block;
  block.index = static_cast<int64_t>(blocks_.size());
  block.first_frame = committed_frames();
  block.frames = latents.dim(0);
  block.file = block_file_name(block.index);
  TemporaryFile temporary(run_ / block.file);
  write_block_file(temporary.path(), block, id.version, latents);
  {
    const OpenFile file(temporary.path(), O_RDONLY, ExitCode::io);
    const FileDigest written = digest(file);
    block.bytes = written.bytes;
    block.sha256 = written.sha256;
  }
  temporary.publish();
  commit({records_ + 1, epoch_, {block}, {}, head_, {}});
  latents_hash_.update(latents.as<float>(), latents.bytes());
  refresh_view();
  failed_ = false;
}

void LatentStore::confirm(int64_t index, ConstTensor latents) const {
  const CommittedBlock& block = blocks_.at(static_cast<size_t>(index));
  const fs::path path = run_ / block.file;
  LT_CHECK(latents.dense() && latents.dtype == DType::f32, "expected dense f32 latents");
  const OwnedTensor stored = read_block_file(path, block, identity_);
  if (stored.shape() == latents.shape &&
      std::memcmp(stored.as<float>(), latents.data, stored.bytes()) == 0)
    return;
  fail(ExitCode::bad_data,
       "{} (block {}) was committed with other numbers than this process makes: expected the same "
       "version of longtake and the same vector instructions; choose another output folder",
       path.string(), index);
}

void LatentStore::append_state(const CommittedState& state) {
  LT_CHECK(log_, "the latent store is closed");
  LT_CHECK(!failed_, "the latent store failed before; its last commit stays valid");
  failed_ = true;
  sync_directory(run_ / "state");
  commit({records_ + 1, epoch_, {}, state, head_, {}});
  prune_states();
  failed_ = false;
}

// The last two stay; none when the run is complete.
void LatentStore::prune_states() {
  const size_t kept = complete() ? 0 : kStatesKept;
  while (states_.size() > kept) {
    for (const StateFile& file : states_.front().files)
      if (::unlink((run_ / file.file).c_str()) != 0 && errno != ENOENT)
        fail_errno(ExitCode::io, "remove", run_ / file.file);
    states_.erase(states_.begin());
  }
}

void LatentStore::commit(CommitRecord record) {
  record.extension = std::exchange(extension_, std::nullopt);
  const std::string line = commit_line(record);
  log_->write(line);
  log_->sync_data();
  head_ = sha256_hex(std::string_view(line).substr(0, line.size() - 1));
  ++records_;
  blocks_.insert(blocks_.end(), record.blocks.begin(), record.blocks.end());
  if (record.state) states_.push_back(std::move(*record.state));
}

void LatentStore::refresh_view() const {
  TemporaryFile temporary(run_ / "stream.h5");
  write_stream_view(temporary.path(), identity_, blocks_);
  temporary.publish();
}

void LatentStore::discard_unused() noexcept {
  if (!made_) return;
  try {
    std::error_code ignored;
    if (!lock_)
      fs::remove(run_, ignored);  // only if it is empty: without the lock it may be another's
    else if (blocks_.empty() && !may_hold_a_commit(run_))
      fs::remove_all(run_, ignored);
  } catch (const std::exception&) {
    // The log cannot be read: the folder stays.
  }
}

void LatentStore::close() {
  if (log_ && complete()) prune_states();
  if (log_) log_->close();
  log_.reset();
  if (lock_) lock_->close();
  lock_.reset();
}

}  // namespace longtake
