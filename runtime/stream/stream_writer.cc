#include "runtime/stream/stream_writer.h"

#include <sys/resource.h>

#include <algorithm>
#include <optional>

#include "runtime/stream/block_file.h"
#include "runtime/stream/latent_reader.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMostQueued = 8;
constexpr int kLowestPriority = 19;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

StreamWriter::StreamWriter(LatentStore& store, VideoOutput* video, Mode mode, ThreadPool& pool,
                           int64_t first_block, int spare_threads)
    : store_(store),
      video_(video),
      mode_(mode),
      pool_(pool),
      start_(Clock::now()),
      kept_(static_cast<int64_t>(store.committed_blocks().size())),
      pushed_(first_block),
      spare_threads_(spare_threads) {
  LT_CHECK(first_block <= kept_, "the run goes on with block {}, the store has {}", first_block,
           kept_);
  stored_.assign(store.committed_blocks().begin(), store.committed_blocks().begin() + first_block);
  store_thread_ = std::thread([this] { store_loop(); });
  if (video && mode == Mode::background) decode_thread_ = std::thread([this] { decode_loop(); });
}

StreamWriter::~StreamWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = stop_decoding_ = true;
    queue_.clear();  // only after an error is anything left
  }
  join();
}

void StreamWriter::join() {
  changed_.notify_all();
  if (store_thread_.joinable()) store_thread_.join();
  if (decode_thread_.joinable()) decode_thread_.join();
}

void StreamWriter::enqueue(Task task) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.size() < kMostQueued || error_; });
  if (error_) std::rethrow_exception(error_);
  queue_.push_back(std::move(task));
  changed_.notify_all();
}

void StreamWriter::push(ConstTensor latents) {
  enqueue(time_first(latents));
  if (!video_ || mode_ == Mode::background) return;
  for (CommittedBlock earlier; next_to_decode(earlier) && earlier.index < pushed_;)
    decode(read_committed(store_.path(), earlier, store_.identity()), StreamRef(pool_));
  decode(time_first(latents), StreamRef(pool_));
  ++pushed_;
}

void StreamWriter::push_state(CommittedState state) {
  enqueue(std::move(state));
}

bool StreamWriter::settled(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  finishing_ = true;
  const bool done = changed_.wait_for(lock, most, [this] {
    const bool decoded = !decode_thread_.joinable() || decoded_ == stored_.size();
    return error_ || (queue_.empty() && !storing_ && !decoding_ && decoded);
  });
  if (error_) std::rethrow_exception(error_);
  return done;
}

void StreamWriter::finish() {
  if (video_ && mode_ == Mode::caller)  // what an earlier process stored but did not decode
    for (CommittedBlock earlier; next_to_decode(earlier);)
      decode(read_committed(store_.path(), earlier, store_.identity()), StreamRef(pool_));
  while (!settled(std::chrono::minutes(1))) {
  }
  if (video_) video_->close();
}

void StreamWriter::stop() {
  {
    std::unique_lock lock(mutex_);
    stop_decoding_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return error_ || (queue_.empty() && !storing_ && !decoding_); });
    if (error_) std::rethrow_exception(error_);
    stop_ = true;
  }
  join();
  if (video_ && video_->frames() > 0) video_->close();
}

int64_t StreamWriter::frames() const {
  const std::lock_guard lock(mutex_);
  return frames_;
}

int64_t StreamWriter::blocks() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(stored_.size());
}

void StreamWriter::carry_out(const Task& task) {
  const Clock::time_point start = Clock::now();
  if (const auto* state = std::get_if<CommittedState>(&task)) {
    store_.append_state(*state);
    note(Event::Kind::state, state->sweep, start);
  } else {
    const auto& latents = std::get<OwnedTensor>(task);
    const auto index = static_cast<int64_t>(stored_.size());  // this thread alone adds to it
    if (index < kept_)
      store_.confirm(index, latents);
    else
      store_.append(latents);
    note(Event::Kind::block, index, start);
    const std::lock_guard lock(mutex_);
    stored_.push_back(store_.committed_blocks().at(static_cast<size_t>(index)));
  }
  seconds_.commits.push_back(seconds_since(start));
  seconds_.store += seconds_.commits.back();
}

void StreamWriter::note(Event::Kind kind, int64_t index, Clock::time_point begin) {
  constexpr size_t kMost = 20000;
  const std::lock_guard lock(mutex_);
  if (events_.size() < kMost) events_.push_back({kind, index, begin, Clock::now()});
}

void StreamWriter::fail_later() {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::current_exception();
  changed_.notify_all();
}

void StreamWriter::store_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const Task task = std::move(queue_.front());
    queue_.pop_front();
    storing_ = true;
    lock.unlock();
    try {
      carry_out(task);
    } catch (...) {
      return fail_later();
    }
    lock.lock();
    storing_ = false;
    changed_.notify_all();
  }
}

bool StreamWriter::next_to_decode(CommittedBlock& block) const {
  const std::lock_guard lock(mutex_);
  if (decoded_ >= stored_.size()) return false;
  block = stored_[decoded_];
  return true;
}

void StreamWriter::decode(ConstTensor latents, StreamRef stream) {
  const Clock::time_point start = Clock::now();
  const int64_t step = video_->at_once();
  for (int64_t t = 0; t < latents.dim(0); t += step) {
    video_->push(latents.rows(t, std::min(latents.dim(0), t + step)), stream);
    const std::lock_guard lock(mutex_);
    frames_ = video_->frames();
    if (seconds_.first_frames == 0) seconds_.first_frames = seconds_since(start_);
    if (stop_decoding_) break;
  }
  note(Event::Kind::decode, static_cast<int64_t>(decoded_), start);  // this thread adds to it
  const std::lock_guard lock(mutex_);
  seconds_.decode += seconds_since(start);
  ++decoded_;
}

void StreamWriter::decode_loop() {
  // Of this thread only (Linux); where it is refused, decoding merely competes with denoising.
  (void)setpriority(PRIO_PROCESS, 0, kLowestPriority);
  ThreadPool one(1);
  std::optional<ThreadPool> spare;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_decoding_ || decoded_ < stored_.size(); });
    if (stop_decoding_) return;
    const CommittedBlock block = stored_[decoded_];
    decoding_ = true;
    const bool use_spare = finishing_ && spare_threads_ > 1;
    lock.unlock();
    try {
      if (use_spare && !spare) spare.emplace(spare_threads_);
      decode(read_committed(store_.path(), block, store_.identity()),
             StreamRef(use_spare ? *spare : one));
    } catch (...) {
      return fail_later();
    }
    lock.lock();
    decoding_ = false;
    changed_.notify_all();
  }
}

}  // namespace longtake
