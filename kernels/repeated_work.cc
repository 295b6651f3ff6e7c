#include "kernels/repeated_work.h"

#include <algorithm>
#include <list>

#include "kernels/cuda/graph.h"

namespace longtake {

namespace {

// Recording costs as much as some replays save: what came only twice may never come again.
constexpr int kRecordedAt = 3;
// Graphs of a stage take some megabytes each; the least recently used one goes.
constexpr size_t kMostGraphs = 64;
constexpr size_t kMostSeen = 1024;

}  // namespace

struct RepeatedWork::State {
  struct Entry {
    Key key;
    int times = 0;
    std::unique_ptr<cuda::Graph> graph;  // empty: not recorded yet
  };
  std::list<Entry> entries;  // most recent first
  int64_t replays = 0;

  void forget_old() {
    size_t graphs = 0, seen = 0;
    std::erase_if(entries, [&](const Entry& e) {
      return e.graph ? ++graphs > kMostGraphs : ++seen > kMostSeen;
    });
  }
};

RepeatedWork::RepeatedWork() : state_(std::make_unique<State>()) {}
RepeatedWork::~RepeatedWork() = default;
RepeatedWork::RepeatedWork(RepeatedWork&&) noexcept = default;
RepeatedWork& RepeatedWork::operator=(RepeatedWork&&) noexcept = default;

int64_t RepeatedWork::replays() const {
  return state_->replays;
}

void RepeatedWork::run(const Key& key, StreamRef stream,
                       const std::function<void(StreamRef)>& work) {
  if (!stream.on_gpu()) return work(stream);
  auto& entries = state_->entries;
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const State::Entry& e) { return e.key == key; });
  if (found == entries.end()) {
    entries.push_front({key, 1, nullptr});
    state_->forget_old();
    return work(stream);
  }
  entries.splice(entries.begin(), entries, found);
  State::Entry& entry = entries.front();
  if (++entry.times < kRecordedAt) return work(stream);
  if (!entry.graph) {
    // Events of clocks cannot be part of a graph.
    entry.graph = cuda::record_graph(stream.cuda(), [&] { work(stream.with(nullptr)); });
    if (!entry.graph) return work(stream);  // an error that is not the recording's shows here
    state_->forget_old();
  } else {
    ++state_->replays;
  }
  cuda::launch(*entry.graph, stream.cuda());
}

}  // namespace longtake
