#ifdef LONGTAKE_CUDNN

#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake::cuda {

Cudnn::Cudnn() : library_({"libcudnn.so.9"}) {
  library_.load(create, "cudnnCreate");
  library_.load(destroy, "cudnnDestroy");
  library_.load(set_stream, "cudnnSetStream");
  library_.load(error_string, "cudnnGetErrorString");
  library_.load(last_error, "cudnnGetLastErrorString");
  library_.load(create_descriptor, "cudnnBackendCreateDescriptor");
  library_.load(destroy_descriptor, "cudnnBackendDestroyDescriptor");
  library_.load(finalize, "cudnnBackendFinalize");
  library_.load(set_attribute, "cudnnBackendSetAttribute");
  library_.load(get_attribute, "cudnnBackendGetAttribute");
  library_.load(execute, "cudnnBackendExecute");
}

const Cudnn& Cudnn::get() {
  static const Cudnn functions;
  return functions;
}

void Cudnn::check(cudnnStatus_t status, const char* call) const {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char words[512] = "";
  last_error(words, sizeof words);
  fail(ExitCode::error, "{}: cuDNN says {}: {}", call, error_string(status), words);
}

GraphDescriptor::GraphDescriptor(cudnnBackendDescriptorType_t type) {
  const Cudnn& dnn = Cudnn::get();
  cudnnBackendDescriptor_t handle = nullptr;
  dnn.check(dnn.create_descriptor(type, &handle), "cudnnBackendCreateDescriptor");
  handle_.reset(handle);
}

GraphDescriptor& GraphDescriptor::set_raw(cudnnBackendAttributeName_t name,
                                          cudnnBackendAttributeType_t type, int64_t count,
                                          const void* values) {
  const Cudnn& dnn = Cudnn::get();
  dnn.check(dnn.set_attribute(get(), name, type, count, values), "cudnnBackendSetAttribute");
  return *this;
}

GraphDescriptor& GraphDescriptor::set(cudnnBackendAttributeName_t name,
                                      const GraphDescriptor& other) {
  const cudnnBackendDescriptor_t handle = other.get();
  return set_raw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &handle);
}

GraphDescriptor& GraphDescriptor::finalize() {
  Cudnn::get().check(try_finalize(), "cudnnBackendFinalize");
  return *this;
}

cudnnStatus_t GraphDescriptor::try_finalize() {
  return Cudnn::get().finalize(get());
}

GraphDescriptor graph_tensor(int64_t id, cudnnDataType_t type, std::vector<int64_t> shape,
                             std::vector<int64_t> strides, bool by_value) {
  GraphDescriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, shape);
  t.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides);
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, int64_t{by_value ? 4 : 16});
  t.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, by_value);
  t.finalize();
  return t;
}

namespace {

constexpr int64_t kMostWorkspaceBytes = int64_t{1} << 30;

// Do cuDNN's own notes on the engine of a configuration say so? Without notes: no.
bool gives_same_bits(const GraphDescriptor& config) {
  const Cudnn& dnn = Cudnn::get();
  const GraphDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t handle = engine.get();
  int64_t count = 0;
  if (dnn.get_attribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                        &count, &handle) != CUDNN_STATUS_SUCCESS)
    return false;
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  if (dnn.get_attribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                        CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) != CUDNN_STATUS_SUCCESS)
    return false;
  return std::find(notes, notes + count, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) == notes + count;
}

}  // namespace

GraphPlan::GraphPlan(cudnnHandle_t handle, GraphDescriptor operation,
                     std::vector<GraphDescriptor> parts, Engines engines)
    : parts_(std::move(parts)) {
  GraphDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
  graph.finalize();
  parts_.push_back(std::move(operation));
  parts_.push_back(std::move(graph));
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK})
    if (take_engine(handle, mode, engines)) return;
  fail(ExitCode::error, "no engine of cuDNN takes this operation");
}

// Leaves the engine's configuration and the plan, in this order, at the end of parts_.
bool GraphPlan::take_engine(cudnnHandle_t handle, cudnnBackendHeurMode_t mode, Engines engines) {
  const Cudnn& dnn = Cudnn::get();
  GraphDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, parts_.back());
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (heuristic.try_finalize() != CUDNN_STATUS_SUCCESS) return false;
  int64_t count = 0;
  if (dnn.get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr) != CUDNN_STATUS_SUCCESS)
    return false;
  std::vector<GraphDescriptor> configs;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (int64_t i = 0; i < count; ++i)
    handles.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  if (count == 0 || dnn.get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                                      handles.data()) != CUDNN_STATUS_SUCCESS)
    return false;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    if (engines == Engines::same_bits && !gives_same_bits(configs[i])) continue;
    GraphDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[i]);
    if (plan.try_finalize() != CUDNN_STATUS_SUCCESS) continue;
    int64_t bytes = 0, one = 0;
    dnn.check(dnn.get_attribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                CUDNN_TYPE_INT64, 1, &one, &bytes),
              "EXECUTION_PLAN_WORKSPACE_SIZE");
    if (bytes > kMostWorkspaceBytes) continue;
    workspace_bytes_ = static_cast<size_t>(bytes);
    parts_.push_back(std::move(configs[i]));
    parts_.push_back(std::move(plan));
    return true;
  }
  return false;
}

cudnnStatus_t GraphPlan::run(cudnnHandle_t handle, const std::vector<int64_t>& ids,
                             const std::vector<void*>& data, void* workspace) const {
  GraphDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize();
  return Cudnn::get().execute(handle, parts_.back().get(), pack.get());
}

}  // namespace longtake::cuda

#endif
