// The executor between two sweeps: what it holds, as parts of the state, and back.
#include "kernels/copy.h"
#include "parallel/plan/held_state.h"
#include "runtime/exec/executor.h"

namespace longtake {

namespace {

StatePart copy_of(ConstTensor data, std::string name, int64_t first_layer, StreamRef stream) {
  const auto host = std::make_shared<OwnedTensor>(to_host(data, stream));
  return {std::move(name), *host, first_layer, host};
}

// `read` fills host memory.
template <class Read>
void read_through_host(Tensor to, StreamRef stream, Read read) {
  if (to.device.type == DeviceType::cpu) return read(to);
  OwnedTensor host(to.dtype, to.shape);
  read(host.view());
  copy(host, to, stream);
}

struct History {
  const char* name;
  OwnedTensor SolverState::*data;
};
constexpr History kHistory[] = {{"solver.last", &SolverState::last},
                                {"solver.data_1", &SolverState::data_1},
                                {"solver.data_2", &SolverState::data_2}};

}  // namespace

QueueState Executor::snapshot(int64_t sweep) const {
  QueueState out;
  out.sweep = sweep;
  for (const Features& features : features_.features())
    for (size_t b = 0; b < branches_.size(); ++b) {
      const auto share = features_.share(features, static_cast<int64_t>(b));
      if (share.data.dim(0) == 0) continue;
      const std::string name = state_name(features, branches_[b] == StageModel::conditional);
      if (share.data.device.type == DeviceType::cuda)
        out.parts.push_back(copy_of(share.data, name, share.first_layer, stream_));
      else
        out.parts.push_back({name, share.data, share.first_layer, share.owner});
    }
  const Mesh& mesh = spec_.plan.mesh;
  if (!mesh.last(spec_.rank) || mesh.branch(spec_.rank).value != 0) return out;
  for (const auto& [block, state] : solvers_) {
    const Latent at{block, {state.step}};
    out.parts.push_back(copy_of(state.latent, state_name(at, "latent"), 0, stream_));
    for (const History& part : kHistory)
      if (state.*part.data)
        out.parts.push_back(copy_of(state.*part.data, state_name(at, part.name), 0, stream_));
  }
  return out;
}

void Executor::restore(const StateSource& from) {
  const HeldState held = held_before(spec_.plan, spec_.rank, spec_.begin);
  for (const Latent& latent : held.latents) {
    if (latent.version.value == spec_.plan.steps) {
      recall(from, latent);
      continue;
    }
    const Tensor to = latents_.make(latent, latent_shape(own_frames(latent.block)));
    read_through_host(to, stream_,
                      [&](Tensor host) { from.read(state_name(latent, "latent"), host); });
  }
  for (const Features& features : held.features) restore(from, features);
  for (const BlockId block : held.solvers) solvers_.emplace(block, restored_solver(from, block));
}

void Executor::recall(const StateSource& from, const Latent& latent) {
  const int64_t frames = own_frames(latent.block);
  const Tensor to = latents_.make(latent, latent_shape(frames));
  const OwnedTensor finished = from.finished(spec_.plan.layout.first_frame(latent.block), frames);
  LT_CHECK(finished.shape() == to.shape, "block {}: expected {}, found {}", latent.block.value,
           to.shape.text(), finished.shape().text());
  copy(finished, to, stream_);
}

void Executor::restore(const StateSource& from, const Features& features) {
  features_.make(features, spec_.plan.layout.context_frames * tokens_per_frame_);
  for (size_t b = 0; b < branches_.size(); ++b) {
    const auto share = features_.share(features, static_cast<int64_t>(b));
    if (share.data.dim(0) == 0) continue;
    const std::string name = state_name(features, branches_[b] == StageModel::conditional);
    read_through_host(share.data, stream_,
                      [&](Tensor host) { from.read_layers(name, share.first_layer, host); });
  }
}

SolverState Executor::restored_solver(const StateSource& from, BlockId block) const {
  SolverState state;
  const int64_t entered = block.value - spec_.plan.layout.first_block;
  state.step = spec_.begin - entered * spec_.plan.effective_stagger();
  const Latent at{block, {state.step}};
  const Shape shape = latent_shape(own_frames(block));
  state.latent = OwnedTensor(DType::f32, shape, stream_.device());
  read_through_host(state.latent, stream_,
                    [&](Tensor host) { from.read(state_name(at, "latent"), host); });
  for (const History& part : kHistory) {
    if (!from.has(state_name(at, part.name))) continue;
    state.*part.data = OwnedTensor(DType::f32, shape, stream_.device());
    read_through_host(state.*part.data, stream_,
                      [&](Tensor host) { from.read(state_name(at, part.name), host); });
  }
  return state;
}

void Executor::drain(int64_t sweep) {
  const Mesh& mesh = spec_.plan.mesh;
  if (mesh.stages == 1 || !mesh.first(spec_.rank)) return;
  const RankId last = mesh.rank({mesh.stages - 1}, mesh.branch(spec_.rank));
  for (const Latent& latent : on_their_way(spec_.plan, spec_.rank, sweep))
    carry_out(Recv{Payload::latent, latent.block, latent.version, last});
}

}  // namespace longtake
