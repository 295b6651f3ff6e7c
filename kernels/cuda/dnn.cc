#include "kernels/cuda/dnn.h"

#include "kernels/base/error.h"

#ifdef LONGTAKE_CUDNN
#include <array>
#include <map>
#include <optional>

#include "kernels/cuda/cudnn_conv.h"
#include "kernels/cuda/quiet.h"

namespace longtake::cuda {

namespace {

constexpr int kScratchSlot = 1;  // of the stream
enum Id : int64_t { kQ = 1, kK, kV, kOut, kScale, kLse };

// Everything a plan depends on; the scale is a value of the run.
struct Sizes {
  int64_t queries, keys, heads, dim;
  int64_t q_stride, k_stride, v_stride, out_stride, lse_stride;  // of rows; lse 0: none
  auto operator<=>(const Sizes&) const = default;
};

// 16-byte loads.
bool aligned(const void* data, int64_t row_stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && row_stride % 8 == 0;
}

// Why not, or empty.
const char* unsuitable(const AttentionArgs& a) {
  if (a.q.dtype != DType::bf16) return "only bf16 is asked of cuDNN";
  if (a.segments.size() != 1) return "the keys come in several segments";
  if (a.segments[0].logit_bias != 0) return "the logits have a bias";
  if (a.bias) return "the logits have a bias";
  if (a.tiles) return "not all keys are visible";
  if (a.q.dim(2) % 8 != 0) return "the head's size is no multiple of 8";
  const KeySegment& s = a.segments[0];
  if (!aligned(a.q.data, a.q.row_stride) || !aligned(s.k.data, s.k.row_stride) ||
      !aligned(s.v.data, s.v.row_stride) || !aligned(a.out.data, a.out.row_stride) ||
      reinterpret_cast<uintptr_t>(a.lse.data) % 16 != 0)
    return "rows do not start at multiples of 16 bytes";
  return "";
}

Sizes sizes_of(const AttentionArgs& a) {
  const KeySegment& s = a.segments[0];
  // The stride of a single row is not used; cuDNN wants one that fits.
  const auto stride = [](const auto& t) {
    return t.dim(0) == 1 ? t.shape.inner_numel() : t.row_stride;
  };
  const int64_t lse = !a.lse ? 0 : a.lse.dim(0) == 1 ? a.lse.dim(1) : a.lse.row_stride;
  return {a.q.dim(0),  s.k.dim(0),  a.q.dim(1),    a.q.dim(2), stride(a.q),
          stride(s.k), stride(s.v), stride(a.out), lse};
}

GraphPlan attention_plan(cudnnHandle_t handle, const Sizes& s) {
  // [1, heads, rows, dim] as it lies in memory, [rows, heads, dim].
  const auto rows = [&](Id id, int64_t n, int64_t stride) {
    return graph_tensor(id, CUDNN_DATA_BFLOAT16, {1, s.heads, n, s.dim},
                        {n * stride, s.dim, stride, 1});
  };
  std::vector<GraphDescriptor> parts;
  GraphDescriptor op(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
  const auto add = [&](cudnnBackendAttributeName_t name, GraphDescriptor tensor) {
    op.set(name, tensor);
    parts.push_back(std::move(tensor));
  };
  add(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, rows(kQ, s.queries, s.q_stride));
  add(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, rows(kK, s.keys, s.k_stride));
  add(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, rows(kV, s.keys, s.v_stride));
  add(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, rows(kOut, s.queries, s.out_stride));
  add(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
      graph_tensor(kScale, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, true));
  if (s.lse_stride > 0)
    add(CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC,
        graph_tensor(kLse, CUDNN_DATA_FLOAT, {1, s.heads, s.queries, 1},
                     {s.heads * s.lse_stride, s.lse_stride, 1, 1}));
  op.finalize();
  return GraphPlan(handle, std::move(op), std::move(parts));
}

GraphPlan make_plan(cudnnHandle_t handle, const Sizes& s) {
  return attention_plan(handle, s);
}
GraphPlan make_plan(cudnnHandle_t handle, const DnnConvSize& s) {
  return conv_plan(handle, s);
}

}  // namespace

struct Dnn::State {
  struct Plan {
    std::optional<GraphPlan> plan;
    std::string why;  // there is none
    bool has_run = false;
  };
  template <class Key>
  using Plans = std::map<Key, Plan>;

  explicit State(Stream& s) : stream(s) {}
  ~State() {
    attention_plans.clear();
    conv_plans.clear();
    if (handle) (void)Cudnn::get().destroy(handle);
  }
  template <class Key>
  Plan& plan_of(Plans<Key>& plans, const Key& sizes);
  // By the plan of these sizes; false with `why` when there is none.
  template <class Key>
  bool run(Plans<Key>& plans, const Key& sizes, const std::vector<int64_t>& ids,
           const std::vector<void*>& data);

  Stream& stream;
  cudnnHandle_t handle = nullptr;  // null: cuDNN cannot be used
  std::string why;
  Plans<Sizes> attention_plans;
  Plans<DnnConvSize> conv_plans;
};

// Refusals are kept too: the same question has the same answer.
template <class Key>
Dnn::State::Plan& Dnn::State::plan_of(Plans<Key>& plans, const Key& sizes) {
  const auto [at, is_new] = plans.try_emplace(sizes);
  Plan& p = at->second;
  if (is_new) {
    const DeviceWide quiet;
    try {
      p.plan.emplace(make_plan(handle, sizes));
    } catch (const Error& error) {
      p.why = error.what();
    }
  }
  why = p.why;
  return p;
}

template <class Key>
bool Dnn::State::run(Plans<Key>& plans, const Key& sizes, const std::vector<int64_t>& ids,
                     const std::vector<void*>& data) {
  Plan& p = plan_of(plans, sizes);
  if (p.plan) {
    const size_t bytes = p.plan->workspace_bytes();
    void* workspace = bytes ? stream.scratch(bytes, kScratchSlot) : nullptr;
    const cudnnStatus_t status = p.plan->run(handle, ids, data, workspace);
    if (status == CUDNN_STATUS_SUCCESS) {
      p.has_run = true;
      why.clear();
      return true;
    }
    if (p.has_run) Cudnn::get().check(status, "cudnnBackendExecute");
    p = {std::nullopt, Cudnn::get().error_string(status)};
  }
  why = p.why;
  return false;
}

Dnn::Dnn(Stream& stream) : state_(std::make_unique<State>(stream)) {
  State& s = *state_;
  try {
    const Cudnn& dnn = Cudnn::get();
    stream.make_current();
    dnn.check(dnn.create(&s.handle), "cudnnCreate");
    dnn.check(dnn.set_stream(s.handle, stream.handle()), "cudnnSetStream");
  } catch (const Error& error) {
    s.why = error.what();
    if (s.handle) (void)Cudnn::get().destroy(s.handle);
    s.handle = nullptr;
  }
}

bool Dnn::available() const {
  return state_->handle != nullptr;
}

bool Dnn::attention(const AttentionArgs& a) {
  State& s = *state_;
  if (!s.handle) return false;
  if (const char* why = unsuitable(a); *why) {
    s.why = why;
    return false;
  }
  if (a.q.numel() == 0) return true;
  const KeySegment& keys = a.segments[0];
  float scale = a.scale;
  std::vector<int64_t> ids{kQ, kK, kV, kOut, kScale};
  std::vector<void*> data{const_cast<void*>(a.q.data), const_cast<void*>(keys.k.data),
                          const_cast<void*>(keys.v.data), a.out.data, &scale};
  if (a.lse) {
    ids.push_back(kLse);
    data.push_back(a.lse.data);
  }
  return s.run(s.attention_plans, sizes_of(a), ids, data);
}

bool Dnn::conv(const DnnConvSize& size, const void* frames, const void* weight, float* sums) {
  State& s = *state_;
  if (!s.handle) return false;
  return s.run(s.conv_plans, size, {kFrames, kWeight, kSums},
               {const_cast<void*>(frames), const_cast<void*>(weight), sums});
}

bool Dnn::has_plan(const DnnConvSize& size) {
  return state_->handle && state_->plan_of(state_->conv_plans, size).plan.has_value();
}

}  // namespace longtake::cuda

#else

namespace longtake::cuda {

struct Dnn::State {
  std::string why = "built without the headers of cuDNN";
};
Dnn::Dnn(Stream&) : state_(std::make_unique<State>()) {}
bool Dnn::available() const {
  return false;
}
bool Dnn::attention(const AttentionArgs&) {
  return false;
}
bool Dnn::conv(const DnnConvSize&, const void*, const void*, float*) {
  return false;
}
bool Dnn::has_plan(const DnnConvSize&) {
  return false;
}

}  // namespace longtake::cuda

#endif

namespace longtake::cuda {

Dnn::~Dnn() = default;
const std::string& Dnn::why_not() const {
  return state_->why;
}

}  // namespace longtake::cuda
