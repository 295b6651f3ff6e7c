#include "kernels/cpu/onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/isa.h"

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

void Matmul::run(const void* a, const void* b, float* c, ThreadPool& pool, int worker) const {
  const Primitive& p = *primitive_;
  guarded("matmul", [&] {
    const auto memory_at = [](const memory::desc& desc, const void* data) {
      return memory(desc, engine(), const_cast<void*>(data));
    };
    void* scratch = pool.scratch(worker, p.scratch.get_size(), kScratchSlot);
    p.primitive.execute(thread_stream(), {{DNNL_ARG_SRC, memory_at(p.a, a)},
                                          {DNNL_ARG_WEIGHTS, memory_at(p.b, b)},
                                          {DNNL_ARG_DST, memory_at(p.c, c)},
                                          {DNNL_ARG_SCRATCHPAD, memory_at(p.scratch, scratch)}});
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
    const auto memory_at = [](const memory::desc& desc, const void* data) {
      return memory(desc, engine(), const_cast<void*>(data));
    };
    void* scratch = pool.scratch(worker, p.scratch.get_size(), kScratchSlot);
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, memory_at(p.in, in)},
                                         {DNNL_ARG_WEIGHTS, memory_at(p.weight, weight)},
                                         {DNNL_ARG_DST, memory_at(p.out, out)},
                                         {DNNL_ARG_SCRATCHPAD, memory_at(p.scratch, scratch)}};
    if (bias) args.emplace(DNNL_ARG_BIAS, memory_at(p.bias, bias));
    p.primitive.execute(thread_stream(), args);
    return 0;
  });
}

}  // namespace longtake::cpu
