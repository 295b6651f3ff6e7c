// Where the states of tiles wait for their turn: in a file without a name, gone with the process.
// The state of a tile is far larger than its picture, and only one is needed at a time.
#pragma once

#include <filesystem>
#include <vector>

#include "runtime/model/vae_layers.h"

namespace longtake {

class TileStates {
 public:
  // The file is made in `folder` when the first state is put aside.
  explicit TileStates(std::filesystem::path folder) : folder_(std::move(folder)) {}
  ~TileStates();
  TileStates(const TileStates&) = delete;
  TileStates& operator=(const TileStates&) = delete;

  // Frames go back to the pool. Errors are those of the disk: ExitCode::cannot_create or io.
  void put(size_t tile, VaeState&& state, FramePool& pool, StreamRef stream);
  VaeState take(size_t tile, FramePool& pool, StreamRef stream) const;

 private:
  struct Place {
    struct Frame {
      Shape shape;  // rank 0: no frame
      DType dtype = DType::f32;
    };
    int64_t offset = 0, capacity = 0;  // bytes
    std::vector<std::array<Frame, 2>> slots;
  };
  void open();

  std::filesystem::path folder_;
  int descriptor_ = -1;
  int64_t end_ = 0;  // of the file
  std::vector<Place> places_;
};

}  // namespace longtake
