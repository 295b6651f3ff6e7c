#include "runtime/exec/executor.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "kernels/copy.h"
#include "kernels/cuda/range.h"
#include "runtime/exec/visit_cache.h"

namespace longtake {

namespace {

// Frames [begin, end) of latents [channels, frames, h, w] into frames [at, ...) of another.
void copy_frames(ConstTensor from, int64_t begin, int64_t end, Tensor to, int64_t at,
                 StreamRef stream) {
  const int64_t plane = from.dim(2) * from.dim(3), c = from.dim(0);
  const ConstTensor source = from.reshape({c, from.dim(1) * plane});
  const Tensor target = to.reshape({c, to.dim(1) * plane});
  copy(source.columns(begin * plane, end * plane),
       target.columns(at * plane, (at + end - begin) * plane), stream);
}

// As `like`, in a channel's buffer.
template <class Void>
TensorView<Void> message_as(ConstTensor like, Void* data, const Device& device) {
  return {data, like.dtype, like.shape, device};
}

std::vector<StageModel::Branch> branches_of(const PlanSpec& plan, RankId rank) {
  if (plan.mesh.branches == 2)
    return {plan.mesh.branch(rank).value == 0 ? StageModel::conditional
                                              : StageModel::unconditional};
  if (plan.guided) return {StageModel::conditional, StageModel::unconditional};
  return {StageModel::conditional};
}

// Self-attentions among the units of a stage.
LayerRange attention_layers(const UnitRange& units) {
  return {(units.begin + 2) / 3, (units.end + 2) / 3};
}

FeatureCache make_cache(const ExecutorSpec& spec, const ExecutorParts& parts,
                        int64_t tokens_per_frame, StreamRef stream) {
  const StageModel& model = *parts.model;
  const StageUnits& units = model.spec().units;
  std::vector<LayerRange> layers;
  for (const StageModel::Branch branch : branches_of(spec.plan, spec.rank))
    layers.push_back(attention_layers(branch == StageModel::conditional ? units.conditional
                                                                        : units.unconditional));
  return FeatureCache(std::move(layers), spec.plan.layout.context_frames * tokens_per_frame,
                      model.config().dim(), model.spec().compute, stream, parts.offload);
}

const Forward* first_visit(const std::vector<Instruction>& list, size_t begin) {
  for (size_t i = begin; i < list.size(); ++i)
    if (const auto* visit = std::get_if<Forward>(&list[i])) return visit;
  return nullptr;
}

int64_t tokens_of_frame(const ExecutorSpec& spec, const StageModel& model) {
  return model.grid_of({spec.channels, 1, spec.height, spec.width}).tokens();
}

}  // namespace

// One directed channel, either end.
struct Executor::Link {
  std::unique_ptr<SendChannel> send;
  std::unique_ptr<ReceiveChannel> receive;
};

Executor::Executor(const ExecutorSpec& spec, const ExecutorParts& parts, StreamRef stream)
    : spec_(spec),
      parts_(parts),
      stream_(stream.with(&clock_)),
      branches_(branches_of(spec.plan, spec.rank)),
      tokens_per_frame_(tokens_of_frame(spec, *parts.model)),
      latents_(stream.device()),
      features_(make_cache(spec, parts, tokens_per_frame_, stream)) {
  const BlockLayout& layout = spec.plan.layout;
  most_frames_ = layout.block_frames + layout.context_frames;
  if (layout.total_frames) most_frames_ = std::min(most_frames_, *layout.total_frames);
  const Shape shape{most_frames_ * tokens_per_frame_, parts.model->config().dim()};
  for (size_t i = 0; i < branches_.size(); ++i) x_.emplace_back(DType::f32, shape, stream.device());
  velocity_.resize(2);
  if (parts_.transport) parts_.transport->answer_with([this] { return in_flight(); });
  open_channels();
  if (spec.begin > 0 && !PlanMaker(spec.plan, spec.begin).done()) {
    LT_CHECK(parts_.state, "a run that goes on needs its state");
    restore(*parts_.state);
  }
}

Executor::~Executor() {
  if (parts_.transport) parts_.transport->answer_with({});
}

size_t Executor::buffer_bytes() const {
  const FeatureOffload* offload = features_.offload();
  size_t total = offload ? offload->device_bytes() : features_.peak_bytes();
  total += latents_.peak_bytes();
  for (const OwnedTensor& x : x_) total += x.bytes();
  return total;
}

void Executor::open_channels() {
  const Mesh& mesh = spec_.plan.mesh;
  if (mesh.ranks() == 1) return;
  LT_CHECK(parts_.transport && parts_.transport->ranks() >= mesh.ranks(),
           "{} ranks need a transport between them", mesh.ranks());
  const auto row_bytes = static_cast<size_t>(parts_.model->config().dim()) * sizeof(float);
  const size_t token_bytes = x_[0].bytes() / (row_bytes)*row_bytes * branches_.size();
  const size_t latent_bytes =
      static_cast<size_t>(latent_shape(most_frames_).numel()) * sizeof(float);
  const auto open = [&](Payload payload, RankId peer, bool sends, size_t bytes) {
    auto& at = links_[{payload, peer}];
    if (!at) at = std::make_unique<Link>();
    const int to = static_cast<int>(peer.value), tag = static_cast<int>(payload);
    if (sends)
      at->send = parts_.transport->open_send(to, tag, bytes, spec_.channel_depth);
    else
      at->receive = parts_.transport->open_receive(to, tag, bytes, spec_.channel_depth);
  };
  const StageId stage = mesh.stage(spec_.rank);
  const BranchId branch = mesh.branch(spec_.rank);
  const bool first = mesh.first(spec_.rank), last = mesh.last(spec_.rank);
  if (!first) open(Payload::tokens, mesh.rank({stage.value - 1}, branch), false, token_bytes);
  if (!last) open(Payload::tokens, mesh.rank({stage.value + 1}, branch), true, token_bytes);
  if (mesh.stages > 1 && last) open(Payload::latent, mesh.rank({0}, branch), true, latent_bytes);
  if (mesh.stages > 1 && first)
    open(Payload::latent, mesh.rank({mesh.stages - 1}, branch), false, latent_bytes);
  if (mesh.branches == 2 && last) {
    const RankId other = mesh.rank(stage, {1 - branch.value});
    open(Payload::velocity, other, true, latent_bytes);
    open(Payload::velocity, other, false, latent_bytes);
  }
  parts_.transport->ready();
}

Executor::Link& Executor::link(Payload payload, RankId peer) {
  const auto found = links_.find({payload, peer});
  LT_CHECK(found != links_.end(), "no channel to rank {}", peer.value);
  return *found->second;
}

void Executor::run() {
  trace_ = Trace();
  PlanMaker maker(spec_.plan, spec_.begin);
  std::vector<Instruction> list;
  while (!maker.done()) {
    list.clear();
    maker.append(spec_.rank, list);
    for (size_t i = 0; i < list.size(); ++i) {
      if (parts_.offload) look_ahead(maker, list, i);
      carry_out(list[i]);
    }
    maker.next();
    if (parts_.after_sweep && !parts_.after_sweep(maker.sweep())) break;
  }
  for (const auto& [key, link] : links_)
    if (link->send)
      link->send->flush("the last messages to rank " + std::to_string(key.second.value));
  run_s_ = trace_.now();
}

// The next visit is this sweep's, or the first of the sweep after it.
void Executor::look_ahead(const PlanMaker& maker, const std::vector<Instruction>& sweep,
                          size_t at) {
  if (!std::holds_alternative<Forward>(sweep[at])) return;
  const Forward* next = first_visit(sweep, at + 1);
  std::vector<Instruction> later;
  if (!next) {
    PlanMaker after = maker;
    after.next();
    after.append(spec_.rank, later);
    next = first_visit(later, 0);
  }
  next_visit_ = next ? std::optional(*next) : std::nullopt;
}

void Executor::carry_out(const Instruction& instruction) {
  {
    const std::lock_guard lock(current_mutex_);
    current_ = instruction;
    current_start_ = Trace::Clock::now();
  }
  Transport* transport = parts_.transport;
  const double waited = transport ? transport->wait_seconds() : 0;
  TraceEvent event{instruction, trace_.now(), 0, 0};
  std::optional<cuda::Range> range;
  if (stream_.on_gpu()) range.emplace(to_text(instruction).c_str());
  std::visit([this](const auto& op) { issue(op); }, instruction);
  range.reset();
  stream_.synchronize();  // a GPU's work counts for its instruction, and an error shows there
  event.end_s = trace_.now();
  event.wait_s = transport ? transport->wait_seconds() - waited : 0;
  trace_.add(event);
  if (transport) transport->progress();
}

std::string Executor::in_flight() const {
  const std::lock_guard lock(current_mutex_);
  if (!current_) return "before the first instruction";
  const std::chrono::duration<double> taken = Trace::Clock::now() - current_start_;
  return fmt::format("{} for {:.1f} s", to_text(*current_), taken.count());
}

int64_t Executor::tokens(BlockId block) const {
  return (own_frames(block) + spec_.plan.prefix_token_frames(block)) * tokens_per_frame_;
}

Tensor Executor::x(size_t branch, BlockId block) {
  return x_[branch].view().rows(0, tokens(block));
}

void Executor::issue(const Admit& i) {
  const Tensor noise = latents_.make({i.block, {0}}, latent_shape(own_frames(i.block)));
  if (stream_.on_gpu()) {
    OwnedTensor host(DType::f32, noise.shape);
    parts_.noise(i.block, host);
    copy(host, noise, stream_);
  } else {
    parts_.noise(i.block, noise);
  }
  if (!spec_.plan.mesh.last(spec_.rank)) return;
  SolverState state;
  state.latent = to_device(noise, stream_);
  solvers_.emplace(i.block, std::move(state));
}

void Executor::issue(const Recall& i) {
  LT_CHECK(parts_.state, "a video that is made longer needs the finished one");
  recall(*parts_.state, i.latent);
}

void Executor::issue(const Embed& i) {
  const ConstTensor own = latents_.read({i.block, i.step});
  OwnedTensor window;
  ConstTensor latent = own;
  if (i.prefix) {
    const ConstTensor before = latents_.read(*i.prefix);
    const int64_t c = spec_.plan.prefix_token_frames(i.block), frames = own.dim(1);
    window = OwnedTensor(DType::f32, latent_shape(c + frames), stream_.device());
    copy_frames(before, before.dim(1) - c, before.dim(1), window, 0, stream_);
    copy_frames(own, 0, frames, window, c, stream_);
    latent = window;
  }
  parts_.model->embed(i.step.value, latent, x(0, i.block), stream_);
  for (size_t b = 1; b < x_.size(); ++b) copy(x(0, i.block), x(b, i.block), stream_);
}

const void* Executor::receive(ReceiveChannel& channel, size_t bytes, const std::string& what) {
  if (parts_.gate) parts_.gate->open();
  const void* message = channel.receive(bytes, what);
  if (parts_.gate) parts_.gate->close();
  return message;
}

void Executor::issue(const Recv& i) {
  ReceiveChannel& channel = *link(i.payload, i.from).receive;
  const std::string what = to_text(i);
  if (i.payload == Payload::tokens) {
    const size_t bytes = x(0, i.block).bytes();
    const auto* from = static_cast<const char*>(receive(channel, bytes * x_.size(), what));
    for (size_t b = 0; b < x_.size(); ++b) {
      const Tensor to = x(b, i.block);
      copy(message_as<const void>(to, from + b * bytes, channel.device()), to, stream_);
    }
  } else {
    const Shape shape = latent_shape(own_frames(i.block));
    Tensor to;
    if (i.payload == Payload::latent) {
      to = latents_.make({i.block, i.step}, shape);
    } else {
      OwnedTensor& other = velocity_[branches_[0] == StageModel::conditional ? 1 : 0];
      if (!other || other.shape() != shape)
        other = OwnedTensor(DType::f32, shape, stream_.device());
      to = other;
    }
    copy(message_as(to, receive(channel, to.bytes(), what), channel.device()), to, stream_);
  }
  channel.release();
}

void Executor::issue(const Send& i) {
  SendChannel& channel = *link(i.payload, i.to).send;
  auto* to = static_cast<char*>(channel.acquire(to_text(i)));
  if (i.payload == Payload::tokens) {
    const size_t bytes = x(0, i.block).bytes();
    for (size_t b = 0; b < x_.size(); ++b) {
      const ConstTensor from = x(b, i.block);
      copy(from, message_as<void>(from, to + b * bytes, channel.device()), stream_);
    }
    channel.send(bytes * x_.size());
    return;
  }
  const ConstTensor from = i.payload == Payload::latent ? latents_.read({i.block, i.step})
                                                        : ConstTensor(velocity_[branches_[0]]);
  copy(from, message_as<void>(from, to, channel.device()), stream_);
  channel.send(from.bytes());
}

void Executor::issue(const Forward& i) {
  const int64_t c = spec_.plan.layout.context_frames, own = own_frames(i.block);
  const int64_t head_rows = std::min(c, own) * tokens_per_frame_, tail_rows = c * tokens_per_frame_;
  const int64_t skipped = i.prefix_tokens ? spec_.plan.prefix_token_frames(i.block) : 0;
  if (i.publish_head) features_.make({Edge::head, i.block, i.step}, head_rows);
  if (i.publish_tail) features_.make({Edge::tail, i.block, i.step}, tail_rows);
  Visit visit;
  visit.grid = parts_.model->grid_of(latent_shape(own + skipped));
  visit.prefix_frames = i.prefix ? c : 0;
  visit.suffix_frames = i.suffix ? std::min(c, own_frames(i.suffix->block)) : 0;
  visit.exchange = parts_.exchange;
  visit.key.block = static_cast<int32_t>(i.block.value);
  visit.key.step = static_cast<int32_t>(i.step.value);
  const int64_t prompt = parts_.prompt_of(i.block);
  features_.begin_visit(i, next_visit_ ? &*next_visit_ : nullptr);
  std::deque<VisitCache> caches;
  std::vector<StageModel::BranchVisit> visits;
  for (size_t b = 0; b < branches_.size(); ++b) {
    visit.features = &caches.emplace_back(features_, i, static_cast<int64_t>(b), head_rows,
                                          tail_rows, skipped * tokens_per_frame_);
    visit.key.branch = static_cast<uint8_t>(branches_[b]);
    visits.push_back({branches_[b], visit, x(b, i.block)});
  }
  // In turn only for others: it takes two workspaces.
  if (parts_.exchange && parts_.exchange->anybody()) {
    parts_.model->forward_in_turn(i.step.value, prompt, visits, stream_);
  } else {
    for (const StageModel::BranchVisit& of : visits) {
      parts_.model->forward(i.step.value, prompt, of, stream_);
      if (parts_.transport) parts_.transport->progress();
    }
  }
  features_.end_visit();
  // Blocks are finished in order: no later one asks for an earlier prompt.
  if (i.step.value + 1 == spec_.plan.steps) parts_.model->forget_prompts_before(prompt);
  ++visits_;
  if (parts_.progress) parts_.progress(visits_);
}

void Executor::issue(const Head& i) {
  const int64_t own = own_frames(i.block), skipped = spec_.plan.prefix_token_frames(i.block);
  const Shape window = latent_shape(own + skipped), shape = latent_shape(own);
  for (size_t b = 0; b < branches_.size(); ++b) {
    OwnedTensor& velocity = velocity_[branches_[b]];
    if (!velocity || velocity.shape() != shape)
      velocity = OwnedTensor(DType::f32, shape, stream_.device());
    if (skipped == 0) {
      parts_.model->head(i.step.value, x(b, i.block), parts_.model->grid_of(window), velocity,
                         stream_);
      continue;
    }
    OwnedTensor whole(DType::f32, window, stream_.device());
    parts_.model->head(i.step.value, x(b, i.block), parts_.model->grid_of(window), whole, stream_);
    copy_frames(whole, skipped, skipped + own, velocity, 0, stream_);
  }
}

void Executor::issue(const SolverStep& i) {
  const Shape shape = latent_shape(own_frames(i.block));
  Velocity velocity{velocity_[StageModel::conditional], {}, 1};
  if (spec_.plan.guided) {
    velocity.unconditional = velocity_[StageModel::unconditional];
    velocity.scale = parts_.model->scale_of(i.step.value);
  }
  SolverState& state = solvers_.at(i.block);
  LT_CHECK(state.step == i.step.value, "block {} is at step {}, not {}", i.block.value, state.step,
           i.step.value);
  parts_.solver->advance(state, velocity, stream_);
  const Tensor next = latents_.make({i.block, {i.step.value + 1}}, shape);
  copy(state.latent, next, stream_);
}

void Executor::issue(const Emit& i) {
  const ConstTensor finished = latents_.read({i.block, {spec_.plan.steps}});
  if (stream_.on_gpu())
    parts_.emit(i.block, to_host(finished, stream_));
  else
    parts_.emit(i.block, finished);
}

}  // namespace longtake
