#include "kernels/cuda/graph.h"

#include "kernels/cuda/check.h"

namespace longtake::cuda {

namespace {

class RecordedGraph : public Graph {
 public:
  explicit RecordedGraph(cudaGraph_t graph) {
    const cudaError_t made = cudaGraphInstantiate(&run_, graph, 0);
    (void)cudaGraphDestroy(graph);
    LT_CUDA(made);
  }
  ~RecordedGraph() override {
    if (run_) (void)cudaGraphExecDestroy(run_);
  }
  cudaGraphExec_t run() const { return run_; }

 private:
  cudaGraphExec_t run_ = nullptr;
};

}  // namespace

// Relaxed: other threads of the process may allocate meanwhile.
std::unique_ptr<Graph> record_graph(Stream& stream, const std::function<void()>& work) {
  LT_CUDA(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeRelaxed));
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(stream.handle(), &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    throw;
  }
  LT_CUDA(cudaStreamEndCapture(stream.handle(), &graph));
  return std::make_unique<RecordedGraph>(graph);
}

void launch(const Graph& graph, Stream& stream) {
  LT_CUDA(cudaGraphLaunch(static_cast<const RecordedGraph&>(graph).run(), stream.handle()));
}

}  // namespace longtake::cuda
