#include "runtime/model/transformer.h"

#include <cmath>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/cuda/stream.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"
#include "kernels/patch.h"

namespace longtake {

namespace {

// cos then sin of t * exp(-ln(10000) i / half), angles in double (wan.md 2.2.3).
void sinusoid(double t, int64_t half, float* out) {
  for (int64_t i = 0; i < half; ++i) {
    const double omega =
        std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
    out[i] = static_cast<float>(std::cos(t * omega));
    out[half + i] = static_cast<float>(std::sin(t * omega));
  }
}

}  // namespace

Transformer::Transformer(const Weights& weights, const TransformerConfig& config, UnitRange units,
                         DType compute, StreamRef stream)
    : config_(config), units_(units), compute_(compute) {
  const int64_t d = config.dim(), patch = config.patch[0] * config.patch[1] * config.patch[2];
  LT_CHECK(0 <= units.begin && units.begin <= units.end && units.end <= 3 * config.layers,
           "sub-layers {} to {} of a model with {}", units.begin, units.end, 3 * config.layers);
  const std::string embedder = "condition_embedder.";
  time_1_ = weights.linear(embedder + "time_embedder.linear_1", d, config.freq_dim, true,
                           DType::f32, stream);
  time_2_ = weights.linear(embedder + "time_embedder.linear_2", d, d, true, DType::f32, stream);
  time_proj_ = weights.linear(embedder + "time_proj", 6 * d, d, true, DType::f32, stream);
  text_1_ = weights.linear(embedder + "text_embedder.linear_1", d, config.text_dim, true, compute,
                           stream);
  text_2_ = weights.linear(embedder + "text_embedder.linear_2", d, d, true, compute, stream);
  if (units.begin == 0)
    patch_ =
        weights.linear("patch_embedding", d, config.in_channels * patch, true, DType::f32, stream);
  layers_.resize(static_cast<size_t>(config.layers));
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    Layer& layer = layers_[static_cast<size_t>(unit / 3)];
    const std::string block = "blocks." + std::to_string(unit / 3);
    if (!layer.table)
      layer.table = weights.read(block + ".scale_shift_table", {1, 6, d}, DType::f32, stream);
    switch (unit % 3) {
      case 0:
        layer.self.emplace(weights, block, config, compute, stream);
        break;
      case 1:
        layer.cross.emplace(weights, block, config, compute, stream);
        break;
      default:
        layer.ffn.emplace(weights, block, config, compute, stream);
    }
  }
  if (units.end != 3 * config.layers) return;
  head_table_ = weights.read("scale_shift_table", {1, 2, d}, DType::f32, stream);
  proj_out_ = weights.linear("proj_out", config.out_channels * patch, d, true, DType::f32, stream);
}

size_t Transformer::weight_bytes() const {
  size_t total = head_table_.bytes();
  for (const Linear* l : {&patch_, &time_1_, &time_2_, &time_proj_, &text_1_, &text_2_, &proj_out_})
    total += l->bytes();
  for (const Layer& layer : layers_) {
    total += layer.table ? layer.table.bytes() : 0;
    if (layer.self) total += layer.self->bytes();
    if (layer.cross) total += layer.cross->bytes();
    if (layer.ffn) total += layer.ffn->bytes();
  }
  return total;
}

Modulation Transformer::modulate(std::span<const double> timesteps, std::span<const int32_t> row,
                                 StreamRef stream) const {
  const int64_t n = static_cast<int64_t>(timesteps.size()), d = config_.dim(),
                half = config_.freq_dim / 2;
  LT_CHECK(n >= 1 && (n == 1 || !row.empty()), "{} timesteps need an index per token", n);
  OwnedTensor s(DType::f32, {n, config_.freq_dim}), h(DType::f32, {n, d}, stream.device());
  for (int64_t i = 0; i < n; ++i)
    sinusoid(timesteps[static_cast<size_t>(i)], half, s.as<float>() + i * 2 * half);
  Modulation out{OwnedTensor(DType::f32, {n, d}, stream.device()),
                 OwnedTensor(DType::f32, {n, 6 * d}, stream.device()),
                 {}};
  if (n > 1)
    out.row =
        to_device(ConstTensor(row.data(), DType::i32, {static_cast<int64_t>(row.size())}), stream);
  const OwnedTensor frequencies = to_device(s, stream);
  linear({.x = frequencies, .activation = Activation::silu, .y = h}, time_1_, stream);
  linear({.x = h, .y = out.temb}, time_2_, stream);
  silu(out.temb, h, stream);
  linear({.x = h, .y = out.e}, time_proj_, stream);
  return out;
}

TextContext Transformer::text_context(UnitRange units, ConstTensor text, StreamRef stream) const {
  const int64_t rows = text.dim(0), padding = config_.text_length - rows, d = config_.dim();
  LT_CHECK(text.rank() == 2 && text.dim(1) == config_.text_dim && padding >= 0,
           "expected a text embedding [at most {}, {}], found {}", config_.text_length,
           config_.text_dim, text.shape.text());
  const int64_t computed = rows + (padding > 0 ? 1 : 0);
  OwnedTensor in(compute_, {computed, config_.text_dim}, stream.device());
  fill_zero(in, stream);
  const OwnedTensor given = to_device(text, stream);
  if (rows > 0) convert(given, in.view().rows(0, rows), stream);
  OwnedTensor hidden(compute_, {computed, d}, stream.device());
  OwnedTensor context(compute_, {computed, d}, stream.device());
  linear({.x = in, .activation = Activation::gelu_tanh, .y = hidden}, text_1_, stream);
  linear({.x = hidden, .y = context}, text_2_, stream);
  TextContext out;
  out.layers.resize(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].cross && units.contains(3 * static_cast<int64_t>(i) + 1))
      out.layers[i] = layers_[i].cross->text_keys(context, rows, padding, stream);
  return out;
}

TokenGrid token_grid(const TransformerConfig& config, const Shape& latent) {
  const auto& p = config.patch;
  LT_CHECK(latent.rank() == 4 && latent[0] == config.in_channels && latent[1] % p[0] == 0 &&
               latent[2] % p[1] == 0 && latent[3] % p[2] == 0,
           "expected a latent [{}, frames, rows, columns] in patches of {} x {} x {}, found {}",
           config.in_channels, p[0], p[1], p[2], latent.text());
  return {latent[1] / p[0], latent[2] / p[1], latent[3] / p[2]};
}

static PatchGrid patches_of(const TransformerConfig& config, const TokenGrid& grid) {
  return {config.patch, grid.frames, grid.rows, grid.columns};
}

void Transformer::embed(ConstTensor latent, Tensor x, StreamRef stream) const {
  const PatchGrid grid = patches_of(config_, token_grid(config_, latent.shape));
  LT_CHECK(patch_.out() != 0, "this stage does not own the patch embedding");
  OwnedTensor patches(DType::f32, {grid.tokens(), config_.in_channels * grid.inside()},
                      stream.device());
  patchify(latent, grid, patches, stream);
  linear({.x = patches, .y = x}, patch_, stream);
}

const RopeTable& Transformer::rope(const TokenGrid& window, StreamRef stream) {
  constexpr size_t kKept = 8;
  for (const auto& [grid, table] : ropes_)
    if (grid == window) return table;
  if (ropes_.size() == kKept) ropes_.erase(ropes_.begin());
  RopeTable table = make_rope_table(config_.head_dim, window, 0);
  if (stream.on_gpu()) table = {to_device(table.cosine, stream), to_device(table.sine, stream)};
  ropes_.emplace_back(window, std::move(table));
  return ropes_.back().second;
}

Transformer::Pass Transformer::begin(UnitRange units, Tensor x, const Visit& visit,
                                     size_t workspace, StreamRef stream) {
  LT_CHECK(units_.begin <= units.begin && units.end <= units_.end,
           "sub-layers {} to {} of a stage with {} to {}", units.begin, units.end, units_.begin,
           units_.end);
  const int64_t d = config_.dim(), frame = visit.grid.per_frame();
  LT_CHECK(x.shape == Shape({visit.grid.tokens(), d}), "expected tokens [{}, {}], found {}",
           visit.grid.tokens(), d, x.shape.text());
  LT_CHECK(visit.features || visit.prefix_frames + visit.suffix_frames == 0,
           "{} context frames without features", visit.prefix_frames + visit.suffix_frames);
  TokenGrid window = visit.grid;
  window.frames += visit.prefix_frames + visit.suffix_frames;
  const RopeTable& table = rope(window, stream);
  Pass pass;
  pass.units = units;
  pass.x = x;
  pass.visit = visit;
  pass.positions = {table.cosine, table.sine, visit.prefix_frames * frame, x.dim(0),
                    visit.suffix_frames * frame};
  pass.workspace = &workspaces_.at(workspace);
  pass.unit = units.begin;
  return pass;
}

bool Transformer::advance(Pass& pass, StreamRef stream) {
  if (pass.begun) {
    pass.begun.finish(stream);
    end_attention(pass, stream);
  }
  while (pass.unit < pass.units.end) {
    if (pass.unit % 3 == 0 && pass.visit.exchange) {
      begin_attention(pass, stream);
      pass.visit.key.layer = static_cast<int32_t>(pass.unit / 3);
      pass.begun =
          StartedAttention(*pass.visit.exchange, pass.attention.args(), pass.visit.key, stream);
      return true;
    }
    forward_unit(pass, stream);
  }
  return false;
}

void Transformer::forward(UnitRange units, Tensor x, const Visit& visit, StreamRef stream) {
  Pass pass = begin(units, x, visit, 0, stream);
  const auto key = visit_key(pass, stream);
  const auto work = [&](StreamRef s) {
    while (advance(pass, s)) {
    }
  };
  if (key)
    visits_.run(*key, stream, work);
  else
    work(stream);
}

// All that a visit on a GPU depends on; nothing where replaying it would not pay.
std::optional<RepeatedWork::Key> Transformer::visit_key(const Pass& pass, StreamRef stream) const {
  const UnitRange& units = pass.units;
  const Visit& visit = pass.visit;
  const VisitRope& positions = pass.positions;
  constexpr int64_t kMostTokens = 8192;  // above, launches hide behind the kernels
  if (!stream.on_gpu() || visit.exchange || pass.x.dim(0) > kMostTokens) return {};
  const auto address = [](const void* p) { return reinterpret_cast<uint64_t>(p); };
  const auto number = [](int64_t n) { return static_cast<uint64_t>(n); };
  RepeatedWork::Key key{number(units.begin),
                        number(units.end),
                        number(visit.grid.frames),
                        number(visit.grid.rows),
                        number(visit.grid.columns),
                        number(visit.prefix_frames),
                        number(visit.suffix_frames),
                        address(pass.x.data),
                        address(positions.cosine.data),
                        address(positions.sine.data),
                        address(visit.modulation),
                        address(visit.modulation->e.view().data),
                        pass.workspace->version,
                        stream.cuda().scratch_version()};
  for (const TextKeys& text : visit.text->layers) {
    if (!text.k) continue;
    key.push_back(address(text.k.view().data));
    key.push_back(address(text.v.view().data));
    key.push_back(number(text.rows));
    key.push_back(number(text.padding));
  }
  if (visit.features && !visit.features->addresses(key)) return {};
  return key;
}

// The modulations of a layer and of the next one lie in the workspace in turn.
ConstTensor Transformer::layer_modulation(int64_t layer, const Pass& pass, StreamRef stream) {
  const OwnedTensor& e = pass.visit.modulation->e;
  OwnedTensor& at = pass.workspace->modulation[layer % 2];
  if (!at || at.shape() != e.shape()) {
    at = OwnedTensor(DType::f32, e.shape(), stream.device());
    ++pass.workspace->version;
  }
  add_rows(e, layers_[static_cast<size_t>(layer)].table, at, stream);
  return at;
}

// Of the unit after the pass's next one.
NextNorm Transformer::next_norm(const Pass& pass, StreamRef stream) {
  const int64_t unit = pass.unit + 1;
  if (unit >= pass.units.end) return {};
  const Layer& layer = layers_[static_cast<size_t>(unit / 3)];
  if (unit % 3 == 1) return layer.cross->norm();
  if (unit % 3 == 0) return layer.self->norm(layer_modulation(unit / 3, pass, stream), pass.visit);
  return layer.ffn->norm(pass.workspace->modulation[unit / 3 % 2], pass.visit);
}

void Transformer::begin_attention(Pass& pass, StreamRef stream) {
  const int64_t index = pass.unit / 3;
  const bool first = pass.unit == pass.units.begin;
  if (first) layer_modulation(index, pass, stream);
  const ConstTensor modulation = pass.workspace->modulation[index % 2];
  pass.attention = layers_[static_cast<size_t>(index)].self->prepare(
      index, pass.x, modulation, pass.visit, pass.positions, !first, *pass.workspace, stream);
}

void Transformer::end_attention(Pass& pass, StreamRef stream) {
  const int64_t index = pass.unit / 3;
  const ConstTensor modulation = pass.workspace->modulation[index % 2];
  layers_[static_cast<size_t>(index)].self->finish(pass.attention.out, pass.x, modulation,
                                                   pass.visit, next_norm(pass, stream),
                                                   *pass.workspace, stream);
  ++pass.unit;
}

void Transformer::forward_unit(Pass& pass, StreamRef stream) {
  if (pass.unit % 3 == 0) {
    begin_attention(pass, stream);
    attention(pass.attention.args(), stream);
    end_attention(pass, stream);
    return;
  }
  const int64_t index = pass.unit / 3;
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const bool first = pass.unit == pass.units.begin;
  if (first) layer_modulation(index, pass, stream);
  const ConstTensor modulation = pass.workspace->modulation[index % 2];
  const NextNorm next = next_norm(pass, stream);
  if (pass.unit % 3 == 1)
    layer.cross->forward(index, pass.x, pass.visit, !first, next, *pass.workspace, stream);
  else
    layer.ffn->forward(pass.x, modulation, pass.visit, !first, next, *pass.workspace, stream);
  ++pass.unit;
}

void Transformer::head(ConstTensor x, const Modulation& modulation, const TokenGrid& grid,
                       Tensor velocity, StreamRef stream) const {
  LT_CHECK(proj_out_.out() != 0, "this stage does not own the head");
  const int64_t n = modulation.temb.dim(0), d = config_.dim();
  OwnedTensor shift_scale(DType::f32, {n, 2 * d}, stream.device());
  for (int64_t half = 0; half < 2; ++half)
    add_rows(modulation.temb, head_table_.view().reshape({2, d}).rows(half, half + 1),
             shift_scale.view().columns(half * d, (half + 1) * d), stream);
  OwnedTensor normed(DType::f32, x.shape, stream.device());
  OwnedTensor patches(DType::f32, {x.dim(0), proj_out_.out()}, stream.device());
  layer_norm_modulate(x, shift_scale.view().columns(0, d), shift_scale.view().columns(d, 2 * d),
                      modulation.row_index(), config_.eps, normed, stream);
  linear({.x = normed, .y = patches}, proj_out_, stream);
  // Here the channel is the fastest index within a patch (wan.md 2.2.8).
  unpatchify(patches, patches_of(config_, grid), velocity, stream);
}

}  // namespace longtake
