// The block queue between two sweeps: all that a run needs to go on from there, by block and layer,
// not by rank, so that another mesh can go on too. Finished blocks are not part of it: they are in
// the latent stream.
//
//   b00000007.v12.latent                  f32 [channels, frames, h, w], version 12 of block 7
//   b00000007.v12.solver.{last,data_1,data_2}   the solver's history, as far as there is any
//   b00000007.s11.tail.{conditional,unconditional}   compute dtype [layers, 2, rows, dim]: keys and
//                                         values written at step 11, of the layers of one rank
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/base/tensor.h"
#include "parallel/plan/instruction.h"

namespace longtake {

struct StatePart {
  std::string name;
  ConstTensor data;
  int64_t first_layer = 0;            // of features
  std::shared_ptr<const void> owner;  // keeps `data`, which does not change any more
};

struct QueueState {
  int64_t sweep = 0;  // that comes next
  std::vector<StatePart> parts;
  size_t bytes() const;
};

// Where a rank finds what it holds when it begins in the middle of a run, or what it sees of a
// finished one that is made longer.
class StateSource {
 public:
  virtual ~StateSource() = default;
  virtual bool has(const std::string& name) const = 0;
  // Layers [first_layer, first_layer + to.dim(0)) of features, from whichever ranks wrote them.
  virtual void read_layers(const std::string& name, int64_t first_layer, Tensor to) const = 0;
  virtual void read(const std::string& name, Tensor to) const = 0;
  // Frames of the latent stream, f32 [channels, frames, h, w]: all finished.
  virtual OwnedTensor finished(int64_t first_frame, int64_t frames) const = 0;
};

std::string state_name(const Latent& latent, const char* what);
std::string state_name(const Features& features, bool conditional);

}  // namespace longtake
