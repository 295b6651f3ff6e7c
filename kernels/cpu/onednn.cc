#include "kernels/cpu/onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/isa.h"
#include "kernels/cpu/onednn_layout.h"

namespace longtake::cpu {

namespace {

using dnnl::memory;

// Scratch slot of the pool that is reserved for oneDNN.
constexpr int kScratchSlot = ThreadPool::kScratchSlots - 1;

memory::data_type data_type(DType dtype) {
  return dtype == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// The instruction set must be limited before oneDNN makes its first kernel.
dnnl::engine& engine() {
  static dnnl::engine cpu = [] {
    switch (active_isa()) {
      case Isa::portable:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
        break;
      case Isa::avx2:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
        break;
      case Isa::avx512:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
        break;
      case Isa::avx512_bf16:
        break;  // everything the processor has
    }
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return cpu;
}

// One stream a thread; the team of OpenMP threads that oneDNN would start is limited to the caller.
dnnl::stream& thread_stream() {
  thread_local dnnl::stream stream = [] {
    omp_set_num_threads(1);
    return dnnl::stream(engine());
  }();
  return stream;
}

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

dnnl::matmul::primitive_desc matmul_desc(const memory::desc& a, const memory::desc& b,
                                         const memory::desc& c) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), a, b, c, attributes()};
#else
  return {{a, b, c}, attributes(), engine()};
#endif
}

dnnl::convolution_forward::primitive_desc conv_desc(const ConvShape& s, const memory::desc& in,
                                                    const memory::desc& weight,
                                                    const memory::desc& bias,
                                                    const memory::desc& out) {
  dnnl::primitive_attr attr = attributes();
  if (s.accumulate) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  const memory::dims strides{s.stride, s.stride};
  const memory::dims before{s.pad_top, s.pad_left}, after{s.pad_bottom, s.pad_right};
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  if (!s.bias) return {engine(), kKind, kAlgorithm, in, weight, out, strides, before, after, attr};
  return {engine(), kKind, kAlgorithm, in, weight, bias, out, strides, before, after, attr};
#else
  if (!s.bias)
    return {{kKind, kAlgorithm, in, weight, out, strides, before, after}, attr, engine()};
  return {{kKind, kAlgorithm, in, weight, bias, out, strides, before, after}, attr, engine()};
#endif
}

// oneDNN's exceptions become ours, with the shape that was asked for.
template <class F>
auto guarded(const char* what, F&& f) {
  try {
    thread_stream();  // limits the threads before a kernel is planned
    return f();
  } catch (const dnnl::error& e) {
    fail(ExitCode::error, "oneDNN {}: {} (status {})", what, e.what(), static_cast<int>(e.status));
  }
}

// A cache of primitives by shape.
template <class Key, class Value>
class Cache {
 public:
  template <class Make>
  std::shared_ptr<const Value> get(const Key& key, Make&& make) {
    const std::lock_guard lock(mutex_);
    auto& entry = entries_[key];
    if (!entry) entry = make();
    return entry;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const Value>> entries_;
};

// Rows for which the layout of packed weights is chosen.
constexpr int64_t kPlanRows = 128;

memory::desc packed_weight_desc(int64_t n, int64_t k, DType dtype) {
  static Cache<std::tuple<int64_t, int64_t, DType>, memory::desc> cache;
  return *cache.get({n, k, dtype}, [&] {
    const auto type = data_type(dtype);
    const memory::desc a({kPlanRows, k}, type, memory::format_tag::ab);
    const memory::desc b({k, n}, type, memory::format_tag::any);
    const memory::desc c({kPlanRows, n}, memory::data_type::f32, memory::format_tag::ab);
    return std::make_shared<memory::desc>(matmul_desc(a, b, c).weights_desc());
  });
}

// Layouts of convolution weights by number: oneDNN chooses one for each shape of image.
std::mutex layouts_mutex;
std::vector<memory::desc>& layouts() {
  static std::vector<memory::desc> all;
  return all;
}

int layout_index(const memory::desc& desc) {
  const std::lock_guard lock(layouts_mutex);
  auto& all = layouts();
  const auto found = std::find(all.begin(), all.end(), desc);
  if (found != all.end()) return static_cast<int>(found - all.begin());
  all.push_back(desc);
  return static_cast<int>(all.size()) - 1;
}

memory::desc layout_desc(int index) {
  const std::lock_guard lock(layouts_mutex);
  return layouts().at(static_cast<size_t>(index));
}

void reorder(const memory::desc& from, const void* data, const memory::desc& to, void* packed) {
  memory source(from, engine(), const_cast<void*>(data));
  memory target(to, engine(), packed);
  dnnl::reorder(source, target).execute(thread_stream(), source, target);
  thread_stream().wait();
}

// A thread's way to run one primitive: what oneDNN calls memories are made once, since for small
// images making them takes as long as the arithmetic.
class Execution {
 public:
  struct Argument {
    int index;
    memory::desc desc;
  };
  Execution(const dnnl::primitive& primitive, const std::vector<Argument>& arguments)
      : primitive_(primitive.get()) {
    for (const Argument& argument : arguments) {
      memories_.emplace_back(argument.desc, engine(), nullptr);
      args_.push_back({argument.index, memories_.back().get()});
    }
    args_.emplace_back();  // weights
  }

  // Of this thread; primitives are never freed.
  template <class Make>
  static Execution& of(const void* primitive, Make&& make) {
    thread_local std::unordered_map<const void*, Execution> all;
    const auto found = all.find(primitive);
    return found != all.end() ? found->second : all.emplace(primitive, make()).first->second;
  }

  void set(size_t argument, const void* data) {
    memories_[argument].set_data_handle(const_cast<void*>(data));
  }
  void execute(int weight_index, const memory::desc& weight_desc, const void* weight) {
    args_.back() = {weight_index, weight_memory(weight_desc, weight)};
    const dnnl_status_t status = dnnl_primitive_execute(
        primitive_, thread_stream().get(), static_cast<int>(args_.size()), args_.data());
    dnnl::error::wrap_c_api(status, "could not execute a primitive");
  }

 private:
  // Weights stay where they are; layers of one shape share a primitive.
  dnnl_memory_t weight_memory(const memory::desc& desc, const void* weight) {
    constexpr size_t kMost = 256;
    const auto found = weights_.find(weight);
    if (found != weights_.end()) return found->second.get();
    if (weights_.size() == kMost) weights_.clear();  // models come and go
    return weights_.emplace(weight, memory(desc, engine(), const_cast<void*>(weight)))
        .first->second.get();
  }

  const_dnnl_primitive_t primitive_;
  std::vector<memory> memories_;
  std::vector<dnnl_exec_arg_t> args_;
  std::unordered_map<const void*, memory> weights_;
};

}  // namespace

bool multiplies_bf16() {
  return active_isa() == Isa::avx512_bf16;
}

struct Matmul::Primitive {
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul primitive;
  memory::desc a, b, c, scratch;
};

Matmul::Matmul(std::unique_ptr<Primitive> primitive) : primitive_(std::move(primitive)) {}
Matmul::~Matmul() = default;

std::shared_ptr<const Matmul> Matmul::get(const MatmulShape& s) {
  static Cache<MatmulShape, Matmul> cache;
  return cache.get(s, [&] {
    return guarded("matmul", [&] {
      const memory::desc a({s.m, s.k}, data_type(s.dtype), memory::format_tag::ab);
      const memory::desc b = packed_weight_desc(s.n, s.k, s.dtype);
      const memory::desc c({s.m, s.n}, memory::data_type::f32, memory::format_tag::ab);
      auto primitive = std::make_unique<Primitive>();
      primitive->desc = matmul_desc(a, b, c);
      primitive->primitive = dnnl::matmul(primitive->desc);
      primitive->a = a;
      primitive->b = b;
      primitive->c = c;
      primitive->scratch = primitive->desc.scratchpad_desc();
      return std::make_shared<const Matmul>(std::move(primitive));
    });
  });
}

size_t Matmul::packed_bytes(int64_t n, int64_t k, DType dtype) {
  return guarded("matmul", [&] { return packed_weight_desc(n, k, dtype).get_size(); });
}

void Matmul::pack(const void* weight, DType weight_dtype, int64_t n, int64_t k, DType dtype,
                  void* packed) {
  guarded("reorder", [&] {
    const memory::desc from({k, n}, data_type(weight_dtype), memory::format_tag::ba);
    reorder(from, weight, packed_weight_desc(n, k, dtype), packed);
    return 0;
  });
}

std::optional<PackedLayout> Matmul::packed_layout(int64_t n, int64_t k, DType dtype) {
  return guarded("matmul", [&] { return unit_layout(packed_weight_desc(n, k, dtype), dtype); });
}

void Matmul::run(const void* a, const void* b, float* c, ThreadPool& pool, int worker) const {
  const Primitive& p = *primitive_;
  guarded("matmul", [&] {
    Execution& run = Execution::of(&p, [&] {
      return Execution(
          p.primitive,
          {{DNNL_ARG_SRC, p.a}, {DNNL_ARG_DST, p.c}, {DNNL_ARG_SCRATCHPAD, p.scratch}});
    });
    run.set(0, a);
    run.set(1, c);
    run.set(2, pool.scratch(worker, p.scratch.get_size(), kScratchSlot));
    run.execute(DNNL_ARG_WEIGHTS, p.b, b);
    return 0;
  });
}

struct Conv::Primitive {
  dnnl::convolution_forward::primitive_desc desc;
  dnnl::convolution_forward primitive;
  memory::desc in, weight, bias, out, scratch;
  int layout = 0;
};

Conv::Conv(std::unique_ptr<Primitive> primitive) : primitive_(std::move(primitive)) {}
Conv::~Conv() = default;

std::shared_ptr<const Conv> Conv::get(const ConvShape& s) {
  static Cache<ConvShape, Conv> cache;
  return cache.get(s, [&] {
    return guarded("convolution", [&] {
      auto p = std::make_unique<Primitive>();
      p->in = memory::desc({1, s.in_channels, s.in_rows, s.in_columns}, memory::data_type::f32,
                           memory::format_tag::nhwc);
      p->bias = memory::desc({s.out_channels}, memory::data_type::f32, memory::format_tag::a);
      p->out = memory::desc({1, s.out_channels, s.out_rows(), s.out_columns()},
                            memory::data_type::f32, memory::format_tag::nhwc);
      const memory::dims kernel{s.out_channels, s.in_channels, s.kernel_rows, s.kernel_columns};
      const memory::desc any(kernel, memory::data_type::f32, memory::format_tag::any);
      p->desc = conv_desc(s, p->in, any, p->bias, p->out);
      p->weight = p->desc.weights_desc();
      p->layout = layout_index(p->weight);
      p->primitive = dnnl::convolution_forward(p->desc);
      p->scratch = p->desc.scratchpad_desc();
      return std::make_shared<const Conv>(std::move(p));
    });
  });
}

int Conv::layout() const {
  return primitive_->layout;
}

int Conv::plain_layout(const ConvShape& s) {
  return layout_index(memory::desc({s.out_channels, s.in_channels, s.kernel_rows, s.kernel_columns},
                                   memory::data_type::f32, memory::format_tag::oihw));
}

size_t Conv::packed_bytes(int layout) {
  return layout_desc(layout).get_size();
}

void Conv::repack(int from_layout, const void* from, int to_layout, void* to) {
  guarded("reorder", [&] {
    reorder(layout_desc(from_layout), from, layout_desc(to_layout), to);
    return 0;
  });
}

void Conv::run(const float* in, const void* weight, const float* bias, float* out, ThreadPool& pool,
               int worker) const {
  const Primitive& p = *primitive_;
  guarded("convolution", [&] {
    Execution& run = Execution::of(&p, [&] {
      std::vector<Execution::Argument> arguments{
          {DNNL_ARG_SRC, p.in}, {DNNL_ARG_DST, p.out}, {DNNL_ARG_SCRATCHPAD, p.scratch}};
      if (bias) arguments.push_back({DNNL_ARG_BIAS, p.bias});
      return Execution(p.primitive, arguments);
    });
    run.set(0, in);
    run.set(1, out);
    run.set(2, pool.scratch(worker, p.scratch.get_size(), kScratchSlot));
    if (bias) run.set(3, bias);
    run.execute(DNNL_ARG_WEIGHTS, p.weight, weight);
    return 0;
  });
}

}  // namespace longtake::cpu
