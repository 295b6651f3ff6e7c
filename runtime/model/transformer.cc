#include "runtime/model/transformer.h"

#include <cmath>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace longtake {

namespace {

// sum[i] = rows[i] + table, rows f32 [n, m], table f32 [m].
void add_table(ConstTensor rows, ConstTensor table, Tensor sum) {
  const float* t = table.as<float>();
  for (int64_t i = 0; i < rows.dim(0); ++i) {
    const float* from = rows.rows(i, i + 1).as<float>();
    float* to = sum.rows(i, i + 1).as<float>();
    for (int64_t j = 0; j < rows.dim(1); ++j) to[j] = from[j] + t[j];
  }
}

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

Modulation Transformer::modulate(std::span<const double> timesteps, std::vector<int32_t> row,
                                 StreamRef stream) const {
  const int64_t n = static_cast<int64_t>(timesteps.size()), d = config_.dim(),
                half = config_.freq_dim / 2;
  LT_CHECK(n >= 1 && (n == 1 || !row.empty()), "{} timesteps need an index per token", n);
  OwnedTensor s(DType::f32, {n, config_.freq_dim}), h(DType::f32, {n, d});
  for (int64_t i = 0; i < n; ++i)
    sinusoid(timesteps[static_cast<size_t>(i)], half, s.as<float>() + i * 2 * half);
  Modulation out{OwnedTensor(DType::f32, {n, d}), OwnedTensor(DType::f32, {n, 6 * d}),
                 n == 1 ? std::vector<int32_t>{} : std::move(row)};
  linear({.x = s, .activation = Activation::silu, .y = h}, time_1_, stream);
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
  OwnedTensor in(compute_, {computed, config_.text_dim});
  in.fill_zero();
  if (rows > 0) convert(text, in.view().rows(0, rows), stream);
  OwnedTensor hidden(compute_, {computed, d}), context(compute_, {computed, d});
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

// Visits every element of the patches: token, index within the patch as
// [channel][frame][row][column], and where it lies in [channel, frames, height, width].
template <class F>
static void for_patches(const std::array<int64_t, 3>& p, int64_t channels, const TokenGrid& g,
                        F f) {
  const int64_t height = g.rows * p[1], width = g.columns * p[2], frames = g.frames * p[0];
  for (int64_t t = 0; t < g.frames; ++t)
    for (int64_t r = 0; r < g.rows; ++r)
      for (int64_t w = 0; w < g.columns; ++w) {
        const int64_t token = (t * g.rows + r) * g.columns + w;
        for (int64_t c = 0; c < channels; ++c)
          for (int64_t pt = 0; pt < p[0]; ++pt)
            for (int64_t pr = 0; pr < p[1]; ++pr)
              for (int64_t pc = 0; pc < p[2]; ++pc) {
                const int64_t inside = (pt * p[1] + pr) * p[2] + pc;
                const int64_t frame = t * p[0] + pt, row = r * p[1] + pr, column = w * p[2] + pc;
                f(token, c, inside, ((c * frames + frame) * height + row) * width + column);
              }
      }
}

void Transformer::embed(ConstTensor latent, Tensor x, StreamRef stream) const {
  const TokenGrid grid = token_grid(config_, latent.shape);
  LT_CHECK(patch_.out() != 0, "this stage does not own the patch embedding");
  const int64_t inside = config_.patch[0] * config_.patch[1] * config_.patch[2];
  OwnedTensor patches(DType::f32, {grid.tokens(), config_.in_channels * inside});
  const float* from = latent.as<float>();
  float* to = patches.as<float>();
  const int64_t stride = patches.dim(1);
  for_patches(config_.patch, config_.in_channels, grid,
              [&](int64_t token, int64_t c, int64_t i, int64_t at) {
                to[token * stride + c * inside + i] = from[at];
              });
  linear({.x = patches, .y = x}, patch_, stream);
}

const RopeTable& Transformer::rope(const TokenGrid& window) {
  constexpr size_t kKept = 8;
  for (const auto& [grid, table] : ropes_)
    if (grid == window) return table;
  if (ropes_.size() == kKept) ropes_.erase(ropes_.begin());
  ropes_.emplace_back(window, make_rope_table(config_.head_dim, window, 0));
  return ropes_.back().second;
}

void Transformer::forward(UnitRange units, Tensor x, const Visit& visit, StreamRef stream) {
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
  const RopeTable& table = rope(window);
  const VisitRope positions{table.cosine, table.sine, visit.prefix_frames * frame, x.dim(0),
                            visit.suffix_frames * frame};
  const OwnedTensor& e = visit.modulation->e;
  if (!workspace_.modulation || workspace_.modulation.shape() != e.shape())
    workspace_.modulation = OwnedTensor(DType::f32, e.shape());
  for (int64_t i = units.begin / 3; 3 * i < units.end; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    add_table(e, layer.table, workspace_.modulation);
    if (units.contains(3 * i))
      layer.self->forward(i, x, workspace_.modulation, visit, positions, workspace_, stream);
    if (units.contains(3 * i + 1)) layer.cross->forward(i, x, visit, workspace_, stream);
    if (units.contains(3 * i + 2))
      layer.ffn->forward(x, workspace_.modulation, visit, workspace_, stream);
  }
}

void Transformer::head(ConstTensor x, const Modulation& modulation, const TokenGrid& grid,
                       Tensor velocity, StreamRef stream) const {
  LT_CHECK(proj_out_.out() != 0, "this stage does not own the head");
  const int64_t n = modulation.temb.dim(0), d = config_.dim(), c_out = config_.out_channels;
  OwnedTensor shift_scale(DType::f32, {n, 2 * d});
  for (int64_t half = 0; half < 2; ++half)
    add_table(modulation.temb, head_table_.view().reshape({2, d}).rows(half, half + 1),
              shift_scale.view().columns(half * d, (half + 1) * d));
  OwnedTensor normed(DType::f32, x.shape), patches(DType::f32, {x.dim(0), proj_out_.out()});
  layer_norm_modulate(x, shift_scale.view().columns(0, d), shift_scale.view().columns(d, 2 * d),
                      modulation.row_index(), config_.eps, normed, stream);
  linear({.x = normed, .y = patches}, proj_out_, stream);
  const float* from = patches.as<float>();
  float* to = velocity.as<float>();
  // Here the channel is the fastest index within a patch (wan.md 2.2.8).
  for_patches(config_.patch, c_out, grid, [&](int64_t token, int64_t c, int64_t i, int64_t at) {
    to[at] = from[token * patches.dim(1) + i * c_out + c];
  });
}

}  // namespace longtake
