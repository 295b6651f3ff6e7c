#include "kernels/solver_step.h"

#include <array>

#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/elementwise.h"

namespace longtake {

namespace {

void check(const char* what, ConstTensor x, const SolverStepArgs& a, bool needed) {
  if (!needed) return;
  LT_CHECK(x && x.numel() == a.latent.numel() && x.dense() && x.dtype == DType::f32,
           "solver_step {}: expected f32 {}, found {} {}", what, a.latent.shape.text(),
           name(x.dtype), x.shape.text());
}

void check(const SolverStepArgs& a) {
  LT_CHECK(a.corrector_terms == 0 || a.corrector_terms == 3 || a.corrector_terms == 4,
           "solver_step: expected 0, 3 or 4 corrector terms, found {}", a.corrector_terms);
  LT_CHECK(1 <= a.predictor_terms && a.predictor_terms <= 3,
           "solver_step: expected 1 to 3 predictor terms, found {}", a.predictor_terms);
  check("latent", a.latent, a, true);
  check("conditional", a.conditional, a, true);
  check("unconditional", a.unconditional, a, bool(a.unconditional));
  check("data", a.data, a, true);
  check("last", a.last, a, true);
  check("data_1", a.data_1, a, a.corrector_terms > 0 || a.predictor_terms == 3);
  check("data_2", a.data_2, a, a.corrector_terms == 4);
}

void combine(std::array<ConstTensor, 4> x, const float* weight, int count, Tensor y,
             StreamRef stream) {
  const auto n = static_cast<size_t>(count);
  linear_combination({x.data(), n}, {weight, n}, y, stream);
}

void on_cpu(const SolverStepArgs& a, StreamRef stream) {
  OwnedTensor guided;
  ConstTensor velocity = a.conditional;
  if (a.unconditional) {
    guided = OwnedTensor(DType::f32, a.latent.shape);
    const float weight[2] = {a.unconditional_weight, a.conditional_weight};
    combine({a.unconditional, a.conditional}, weight, 2, guided, stream);
    velocity = guided;
  }
  const float euler[2] = {1.0f, a.minus_sigma};
  combine({a.latent, velocity}, euler, 2, a.data, stream);
  if (a.corrector_terms > 0)
    combine({a.last, a.data_1, a.data, a.data_2}, a.corrector, a.corrector_terms, a.latent, stream);
  copy(a.latent, a.last, stream);
  if (a.predictor_terms == 1)
    copy(a.data, a.latent, stream);
  else
    combine({a.last, a.data, a.data_1}, a.predictor, a.predictor_terms, a.latent, stream);
}

}  // namespace

void solver_step(const SolverStepArgs& args, StreamRef stream) {
  check(args);
  if (stream.on_gpu())
    cuda::solver_step(args, stream.cuda());
  else
    on_cpu(args, stream);
}

}  // namespace longtake
