// The graph interface of cuDNN: its functions, opened when first asked for, and its descriptors,
// each an owner with typed setters.
#pragma once

#include <cudnn_graph.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/library.h"

namespace longtake::cuda {

struct Cudnn {
  // Fails with the reason when there is no cuDNN 9.
  static const Cudnn& get();
  // Fails with the call, the status and cuDNN's own words.
  void check(cudnnStatus_t status, const char* call) const;

  decltype(&::cudnnCreate) create;
  decltype(&::cudnnDestroy) destroy;
  decltype(&::cudnnSetStream) set_stream;
  decltype(&::cudnnGetErrorString) error_string;
  decltype(&::cudnnGetLastErrorString) last_error;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&::cudnnBackendFinalize) finalize;
  decltype(&::cudnnBackendSetAttribute) set_attribute;
  decltype(&::cudnnBackendGetAttribute) get_attribute;
  decltype(&::cudnnBackendExecute) execute;

 private:
  Cudnn();
  Library library_;
};

class GraphDescriptor {
 public:
  explicit GraphDescriptor(cudnnBackendDescriptorType_t type);

  cudnnBackendDescriptor_t get() const { return handle_.get(); }
  // `type` must be that of T, as cuDNN names it.
  template <class T>
  GraphDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       const std::vector<T>& values) {
    return set_raw(name, type, static_cast<int64_t>(values.size()), values.data());
  }
  template <class T>
  GraphDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       const T& value) {
    return set_raw(name, type, 1, &value);
  }
  GraphDescriptor& set(cudnnBackendAttributeName_t name, const GraphDescriptor& other);
  GraphDescriptor& finalize();
  cudnnStatus_t try_finalize();

 private:
  GraphDescriptor& set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                           int64_t count, const void* values);
  struct Destroy {
    void operator()(cudnnBackendDescriptor_t d) const { (void)Cudnn::get().destroy_descriptor(d); }
  };
  std::unique_ptr<std::remove_pointer_t<cudnnBackendDescriptor_t>, Destroy> handle_;
};

// A tensor of the graph: shape and strides in elements, outermost first.
GraphDescriptor graph_tensor(int64_t id, cudnnDataType_t type, std::vector<int64_t> shape,
                             std::vector<int64_t> strides, bool by_value = false);

// A graph of one operation that some engine of cuDNN has agreed to run.
class GraphPlan {
 public:
  enum class Engines { all, same_bits };  // only those that give the same bits on every call
  // Takes the first engine that agrees, in the order of cuDNN's own preference. `parts`: what the
  // operation refers to; kept. Fails when none agrees.
  GraphPlan(cudnnHandle_t handle, GraphDescriptor operation, std::vector<GraphDescriptor> parts,
            Engines engines = Engines::all);

  size_t workspace_bytes() const { return workspace_bytes_; }
  cudnnStatus_t run(cudnnHandle_t handle, const std::vector<int64_t>& ids,
                    const std::vector<void*>& data, void* workspace) const;

 private:
  bool take_engine(cudnnHandle_t handle, cudnnBackendHeurMode_t mode, Engines engines);
  std::vector<GraphDescriptor> parts_;  // in the order in which they refer to each other
  size_t workspace_bytes_ = 0;
};

}  // namespace longtake::cuda
