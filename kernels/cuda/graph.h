// CUDA backend of kernels/repeated_work.h.
#pragma once

#include <functional>
#include <memory>

#include "kernels/cuda/stream.h"

namespace longtake::cuda {

class Graph {
 public:
  virtual ~Graph() = default;
};

// What `work` issues to the stream, recorded and not done. Null when it could not be recorded:
// another thread's calls can spoil that, and then nothing has been done.
std::unique_ptr<Graph> record_graph(Stream& stream, const std::function<void()>& work);
void launch(const Graph& graph, Stream& stream);

}  // namespace longtake::cuda
