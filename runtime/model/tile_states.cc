#include "runtime/model/tile_states.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "kernels/base/error.h"
#include "kernels/copy.h"

namespace longtake {

namespace {

// All of it; `once` is pread or pwrite.
template <class Once>
void transfer(const char* action, const std::filesystem::path& folder, char* data, size_t bytes,
              int64_t offset, Once once) {
  while (bytes > 0) {
    const ssize_t n = once(data, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      fail(ExitCode::io, "cannot {} the states of VAE tiles in {}: {}", action, folder.string(),
           n < 0 ? std::strerror(errno) : "the file ends early");
    data += n;
    bytes -= static_cast<size_t>(n);
    offset += n;
  }
}

}  // namespace

TileStates::~TileStates() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void TileStates::open() {
  std::string name = (folder_ / ".tmp.vae-tiles.XXXXXX").string();
  // Not every file system knows O_TMPFILE: a name that is removed at once does the same.
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0)
    fail(ExitCode::cannot_create, "cannot create {} for the states of VAE tiles: {}", name,
         std::strerror(errno));
  ::unlink(name.c_str());
}

void TileStates::put(size_t tile, VaeState&& state, FramePool& pool, StreamRef stream) {
  if (descriptor_ < 0) open();
  if (places_.size() <= tile) places_.resize(tile + 1);
  Place& place = places_[tile];
  int64_t bytes = 0;
  place.slots.assign(state.slots.size(), {});
  for (size_t i = 0; i < state.slots.size(); ++i)
    for (size_t k = 0; k < 2; ++k) {
      const OwnedTensor& frame = state.slots[i].frames()[k];
      if (frame) place.slots[i][k] = {frame.shape(), frame.dtype()};
      bytes += static_cast<int64_t>(frame ? frame.bytes() : 0);
    }
  // A state grows with its first frames only.
  if (bytes > place.capacity) {
    place.offset = end_;
    place.capacity = bytes;
    end_ += bytes;
  }
  int64_t at = place.offset;
  for (History& history : state.slots)
    for (OwnedTensor& frame : history.frames()) {
      if (!frame) continue;
      OwnedTensor copied;
      if (!pool.on_host()) copied = to_host(frame, stream);
      OwnedTensor& written = copied ? copied : frame;
      transfer(
          "write", folder_, static_cast<char*>(written.view().data), written.bytes(), at,
          [this](char* data, size_t n, off_t to) { return ::pwrite(descriptor_, data, n, to); });
      at += static_cast<int64_t>(frame.bytes());
    }
  release(std::move(state), pool);
}

VaeState TileStates::take(size_t tile, FramePool& pool, StreamRef stream) const {
  const Place& place = places_.at(tile);
  VaeState state;
  state.first = false;
  state.slots.resize(place.slots.size());
  int64_t at = place.offset;
  for (size_t i = 0; i < place.slots.size(); ++i)
    for (size_t k = 0; k < 2; ++k) {
      const auto& [shape, dtype] = place.slots[i][k];
      if (shape.rank() == 0) continue;
      OwnedTensor frame = pool.take(shape[0], shape[1], shape[2], dtype);
      OwnedTensor staged;
      if (!pool.on_host()) staged = OwnedTensor(dtype, shape);
      OwnedTensor& read = staged ? staged : frame;
      transfer(
          "read", folder_, static_cast<char*>(read.view().data), read.bytes(), at,
          [this](char* data, size_t n, off_t from) { return ::pread(descriptor_, data, n, from); });
      if (staged) copy(staged, frame, stream);
      at += static_cast<int64_t>(frame.bytes());
      state.slots[i].frames()[k] = std::move(frame);
    }
  return state;
}

}  // namespace longtake
