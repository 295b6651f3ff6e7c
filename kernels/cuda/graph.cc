#include "kernels/cuda/graph.h"

#include "kernels/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/quiet.h"

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

// Relaxed: other threads of the process go on meanwhile.
std::unique_ptr<Graph> record_graph(Stream& stream, const std::function<void()>& work) {
  const Capturing quiet;
  LT_CUDA(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeRelaxed));
  bool recorded = true;
  try {
    work();
  } catch (const Error&) {
    recorded = false;
  }
  cudaGraph_t graph = nullptr;
  recorded &= cudaStreamEndCapture(stream.handle(), &graph) == cudaSuccess && graph;
  if (recorded) return std::make_unique<RecordedGraph>(graph);
  if (graph) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
  return nullptr;
}

void launch(const Graph& graph, Stream& stream) {
  LT_CUDA(cudaGraphLaunch(static_cast<const RecordedGraph&>(graph).run(), stream.handle()));
}

}  // namespace longtake::cuda
