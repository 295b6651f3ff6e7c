#include "kernels/cuda/gemm.h"

#include <atomic>
#include <cmath>

#include "kernels/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm_plain.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/gemm_table.h"

namespace longtake::cuda {

namespace {

constexpr int kAsked = 16;  // algorithms, of cuBLASLt
constexpr int kTimed = 5;   // runs of each
std::atomic<bool> tuning{false};

class Event {
 public:
  Event() { LT_CUDA(cudaEventCreate(&event_)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(Stream& stream) { LT_CUDA(cudaEventRecord(event_, stream.handle())); }
  double seconds_since(const Event& start) const {
    float ms = 0;
    LT_CUDA(cudaEventSynchronize(event_));
    LT_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
    return ms / 1e3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// What the operands must hold for either provider.
void check(const GemmArgs& g) {
  LT_CHECK(g.k > 0 && g.lda >= (g.m > 1 ? g.k : 0) && g.ldw >= (g.n > 1 ? g.k : 0) &&
               g.ldd >= (g.m > 1 ? g.n : 0),
           "gemm: a product {} x {} x {} with strides {}, {}, {}", g.m, g.n, g.k, g.lda, g.ldw,
           g.ldd);
  LT_CHECK(
      (g.in == DType::f32 || g.in == DType::bf16) && (g.out == DType::f32 || g.out == DType::bf16),
      "gemm: expected f32 or bf16, found {} to {}", longtake::name(g.in), longtake::name(g.out));
  LT_CHECK((g.epilogue == GemmArgs::Epilogue::none) == !g.bias, "gemm: a bias and its epilogue");
}

}  // namespace

struct Gemm::State {
  struct Entry {
    GemmPlan plan;
    std::optional<cublasLtMatmulAlgo_t> algorithm;  // none: cuBLASLt has none
  };

  explicit State(Stream& s) : stream(s), lt(CublasLt::get()) {
    stream.make_current();
    lt.check(lt.create(&handle), "cublasLtCreate");
    workspace = stream.memory().allocate(GemmPlan::kWorkspaceBytes);
  }
  ~State() {
    if (workspace) stream.memory().free(workspace, GemmPlan::kWorkspaceBytes);
    (void)lt.destroy(handle);
  }

  Entry& entry(const GemmArgs& g);
  std::optional<cublasLtMatmulAlgo_t> choose(const GemmPlan& plan, const GemmArgs& g,
                                             const std::string& key);
  double time(const GemmPlan& plan, const GemmArgs& g, const cublasLtMatmulAlgo_t& algorithm);

  Stream& stream;
  const CublasLt& lt;
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  uint64_t generation = 0;
  std::map<GemmKey, Entry> entries;
};

Gemm::State::Entry& Gemm::State::entry(const GemmArgs& g) {
  GemmTable& table = GemmTable::of_process();
  if (generation != table.generation()) {
    generation = table.generation();
    entries.clear();
  }
  const GemmKey key(g);
  const auto found = entries.find(key);
  if (found != entries.end()) return found->second;
  GemmPlan plan(g);
  const auto algorithm = choose(plan, g, key.text(stream.info().name, lt.version()));
  return entries.emplace(key, Entry{std::move(plan), algorithm}).first->second;
}

std::optional<cublasLtMatmulAlgo_t> Gemm::State::choose(const GemmPlan& plan, const GemmArgs& g,
                                                        const std::string& key) {
  GemmTable& table = GemmTable::of_process();
  if (const auto known = table.find(key)) {
    const cublasLtMatmulAlgo_t algorithm = algorithm_of_hex(*known);
    if (!plan.accepts(handle, algorithm) || !plan.fixed_order(algorithm))
      fail(ExitCode::bad_data, "the algorithm in the table does not fit the product {}", key);
    return algorithm;
  }
  std::optional<cublasLtMatmulAlgo_t> best;
  double best_s = HUGE_VAL;
  for (const bool with_split : {false, true}) {
    for (const cublasLtMatmulAlgo_t& algorithm : plan.algorithms(handle, g, kAsked, with_split)) {
      if (!plan.fixed_order(algorithm)) continue;
      if (!tuning) return algorithm;
      const double s = time(plan, g, algorithm);
      if (s >= best_s) continue;
      best = algorithm;
      best_s = s;
    }
    // The wider question only when the narrow one has no answer.
    if (best) break;
  }
  // Another stream of this process may have timed it meanwhile: the first answer holds.
  if (best) best = algorithm_of_hex(table.add(key, to_hex(*best)));
  return best;
}

// Into scratch memory with D's alignment, so that the caller's data stay.
double Gemm::State::time(const GemmPlan& plan, const GemmArgs& g,
                         const cublasLtMatmulAlgo_t& algorithm) {
  const size_t offset = reinterpret_cast<uintptr_t>(g.d) % 16;
  const size_t bytes = offset + static_cast<size_t>((g.m - 1) * g.ldd + g.n) * size_bytes(g.out);
  const auto give_back = [&](void* data) { stream.memory().free(data, bytes); };
  const std::unique_ptr<void, decltype(give_back)> scratch(stream.memory().allocate(bytes),
                                                           give_back);
  void* d = static_cast<char*>(scratch.get()) + offset;
  LT_CUDA(cudaMemsetAsync(scratch.get(), 0, bytes, stream.handle()));
  Event start, stop;
  for (int i = 0; i < 2; ++i)
    if (plan.launch(handle, g, d, algorithm, workspace, stream.handle()) != CUBLAS_STATUS_SUCCESS)
      return HUGE_VAL;
  start.record(stream);
  for (int i = 0; i < kTimed; ++i)
    lt.check(plan.launch(handle, g, d, algorithm, workspace, stream.handle()), "cublasLtMatmul");
  stop.record(stream);
  return stop.seconds_since(start) / kTimed;
}

Gemm::Gemm(Stream& stream) : state_(std::make_unique<State>(stream)) {}
Gemm::~Gemm() = default;

void Gemm::run(const GemmArgs& g, Provider provider) {
  if (g.m == 0 || g.n == 0) return;
  check(g);
  State& s = *state_;
  if (provider == Provider::library) {
    const State::Entry& entry = s.entry(g);
    if (entry.algorithm) {
      s.lt.check(
          entry.plan.launch(s.handle, g, g.d, *entry.algorithm, s.workspace, s.stream.handle()),
          "cublasLtMatmul");
      return;
    }
  }
  plain_gemm(g, s.stream.handle());
}

bool Gemm::in_library(const GemmArgs& g) {
  if (g.m == 0 || g.n == 0) return true;
  check(g);
  return state_->entry(g).algorithm.has_value();
}

void Gemm::tune(bool on) {
  tuning = on;
  GemmTable::of_process().look_again();
}

std::string Gemm::table() {
  return GemmTable::of_process().text();
}

void Gemm::load_table(const std::string& text) {
  GemmTable::of_process().load(text);
}

std::vector<Gemm::Candidate> Gemm::time_candidates(const GemmArgs& g) {
  check(g);
  State& s = *state_;
  const GemmPlan plan(g);
  std::vector<Candidate> out;
  for (const bool with_split : {false, true})
    for (const auto& algorithm : plan.algorithms(s.handle, g, kAsked, with_split)) {
      Candidate c;
      size_t written = 0;
      const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, int& value) {
        s.lt.check(s.lt.algo_config(&algorithm, attribute, &value, sizeof value, &written),
                   "cublasLtMatmulAlgoConfigGetAttribute");
      };
      get(CUBLASLT_ALGO_CONFIG_ID, c.id);
      get(CUBLASLT_ALGO_CONFIG_TILE_ID, c.tile);
      get(CUBLASLT_ALGO_CONFIG_STAGES_ID, c.stages);
      get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, c.split_k);
      c.fixed_order = plan.fixed_order(algorithm);
      c.seconds = s.time(plan, g, algorithm);
      out.push_back(c);
    }
  return out;
}

}  // namespace longtake::cuda
