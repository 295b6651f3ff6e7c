#include "runtime/model/transformer_layer.h"

#include <array>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/base/error.h"
#include "kernels/norm.h"

namespace longtake {

namespace {

// Rows [0, rows) of one of the workspace's buffers, which becomes at least that large.
Tensor take(LayerWorkspace& w, OwnedTensor& buffer, int64_t rows, int64_t columns, DType dtype,
            StreamRef stream) {
  if (!buffer || buffer.dtype() != dtype || buffer.numel() < rows * columns) {
    buffer = OwnedTensor(dtype, {rows, columns}, stream.device());
    ++w.version;
  }
  return Tensor(buffer.view().data, dtype, {rows, columns}, stream.device());
}

ConstTensor by_head(ConstTensor x, int64_t heads) {
  return x.reshape({x.dim(0), heads, x.dim(1) / heads});
}

// Part j of the modulation [n, 6 * dim].
ConstTensor part(ConstTensor modulation, int64_t j, int64_t dim) {
  return modulation.columns(j * dim, (j + 1) * dim);
}

// Adaptive layer norm with parts `shift` and `shift` + 1 of the modulation.
NextNorm modulated_norm(ConstTensor modulation, int64_t shift, const Visit& visit, float eps,
                        DType dtype) {
  const int64_t dim = modulation.dim(1) / 6;
  return {LayerNorm{part(modulation, shift, dim), part(modulation, shift + 1, dim),
                    visit.modulation->row_index(), true, eps},
          dtype};
}

// Ends a sub-layer: x += gate * (o W^T + b), and what the next one begins with.
void to_stream(ConstTensor o, const Linear& out, Tensor x, ConstTensor gate,
               const int32_t* gate_row, const NextNorm& next, LayerWorkspace& w, StreamRef stream) {
  LinearArgs args{.x = o, .residual = x, .gate = gate, .gate_row = gate_row};
  if (next.norm) {
    args.next = &*next.norm;
    args.normed = take(w, w.normed, x.dim(0), x.dim(1), next.dtype, stream);
  }
  linear(args, out, stream);
}

float attention_scale(int64_t head_dim) {
  return 1.0f / std::sqrt(static_cast<float>(head_dim));
}

}  // namespace

SelfAttention::SelfAttention(const Weights& weights, const std::string& block,
                             const TransformerConfig& config, DType compute, StreamRef stream)
    : heads_(config.heads), head_dim_(config.head_dim), eps_(config.eps) {
  const int64_t d = config.dim();
  const std::string at = block + ".attn1.";
  q_ = weights.linear(at + "to_q", d, d, true, compute, stream);
  k_ = weights.linear(at + "to_k", d, d, true, compute, stream);
  v_ = weights.linear(at + "to_v", d, d, true, compute, stream);
  out_ = weights.linear(at + "to_out.0", d, d, true, compute, stream);
  q_norm_ = weights.read(at + "norm_q.weight", {d}, DType::f32, stream);
  k_norm_ = weights.read(at + "norm_k.weight", {d}, DType::f32, stream);
}

PreparedAttention SelfAttention::prepare(int64_t layer, ConstTensor x, ConstTensor modulation,
                                         const Visit& visit, const VisitRope& rope, bool normed,
                                         LayerWorkspace& w, StreamRef stream) const {
  const int64_t n = x.dim(0), d = x.dim(1);
  const DType compute = q_.compute();
  const Tensor a = take(w, w.normed, n, d, compute, stream),
               q = take(w, w.q, n, d, compute, stream);
  const Tensor k = take(w, w.k, n, d, compute, stream), v = take(w, w.v, n, d, compute, stream);
  if (!normed) layer_norm(x, *norm(modulation, visit).norm, a, stream);
  linear({.x = a, .y = q}, q_, stream);
  linear({.x = a, .y = k}, k_, stream);
  linear({.x = a, .y = v}, v_, stream);
  if (visit.features) visit.features->publish(layer, {k, v});

  const auto position = [&](ConstTensor raw, const OwnedTensor& norm, int64_t first, Tensor to) {
    const int64_t last = first + raw.dim(0);
    rms_norm_rope(raw, norm, eps_, rope.cosine.rows(first, last), rope.sine.rows(first, last),
                  heads_, to, stream);
  };
  position(q, q_norm_, rope.prefix_tokens, q);
  position(k, k_norm_, rope.prefix_tokens, k);

  PreparedAttention out;
  const auto add_segment = [&](ConstTensor keys, ConstTensor values) {
    out.segments[out.segment_count++] = {by_head(keys, heads_), by_head(values, heads_)};
  };
  const auto add_neighbour = [&](LayerFeatures f, int64_t tokens, int64_t first,
                                 OwnedTensor& buffer) {
    LT_CHECK(f.k && f.k.shape == Shape({tokens, d}),
             "layer {}: expected features [{}, {}], found {}", layer, tokens, d, f.k.shape.text());
    const Tensor positioned = take(w, buffer, tokens, d, compute, stream);
    position(f.k, k_norm_, first, positioned);
    add_segment(positioned, f.v);
  };
  if (rope.prefix_tokens > 0)
    add_neighbour(visit.features->prefix(layer), rope.prefix_tokens, 0, w.prefix_k);
  add_segment(k, v);
  if (rope.suffix_tokens > 0)
    add_neighbour(visit.features->suffix(layer), rope.suffix_tokens,
                  rope.prefix_tokens + rope.own_tokens, w.suffix_k);

  out.q = by_head(q, heads_);
  out.out = take(w, w.attended, n, d, compute, stream).reshape({n, heads_, head_dim_});
  out.scale = attention_scale(head_dim_);
  return out;
}

void SelfAttention::finish(ConstTensor attended, Tensor x, ConstTensor modulation,
                           const Visit& visit, const NextNorm& next, LayerWorkspace& w,
                           StreamRef stream) const {
  const int64_t n = x.dim(0), d = x.dim(1);
  to_stream(attended.reshape({n, d}), out_, x, part(modulation, 2, d),
            visit.modulation->row_index(), next, w, stream);
}

NextNorm SelfAttention::norm(ConstTensor modulation, const Visit& visit) const {
  return modulated_norm(modulation, 0, visit, eps_, q_.compute());
}

size_t SelfAttention::bytes() const {
  return q_.bytes() + k_.bytes() + v_.bytes() + out_.bytes() + q_norm_.bytes() + k_norm_.bytes();
}

CrossAttention::CrossAttention(const Weights& weights, const std::string& block,
                               const TransformerConfig& config, DType compute, StreamRef stream)
    : heads_(config.heads), head_dim_(config.head_dim), eps_(config.eps) {
  const int64_t d = config.dim();
  const std::string at = block + ".attn2.";
  q_ = weights.linear(at + "to_q", d, d, true, compute, stream);
  k_ = weights.linear(at + "to_k", d, d, true, compute, stream);
  v_ = weights.linear(at + "to_v", d, d, true, compute, stream);
  out_ = weights.linear(at + "to_out.0", d, d, true, compute, stream);
  q_norm_ = weights.read(at + "norm_q.weight", {d}, DType::f32, stream);
  k_norm_ = weights.read(at + "norm_k.weight", {d}, DType::f32, stream);
  norm_weight_ = weights.read(block + ".norm2.weight", {d}, DType::f32, stream);
  norm_bias_ = weights.read(block + ".norm2.bias", {d}, DType::f32, stream);
}

TextKeys CrossAttention::text_keys(ConstTensor text, int64_t rows, int64_t padding,
                                   StreamRef stream) const {
  const Shape shape{text.dim(0), k_.out()};
  TextKeys keys{OwnedTensor(k_.compute(), shape, stream.device()),
                OwnedTensor(k_.compute(), shape, stream.device()), rows, padding};
  linear({.x = text, .y = keys.k}, k_, stream);
  linear({.x = text, .y = keys.v}, v_, stream);
  rms_norm(keys.k, k_norm_, eps_, keys.k, stream);
  return keys;
}

void CrossAttention::forward(int64_t layer, Tensor x, const Visit& visit, bool normed,
                             const NextNorm& next, LayerWorkspace& w, StreamRef stream) const {
  const int64_t n = x.dim(0), d = x.dim(1);
  const DType compute = q_.compute();
  const TextKeys& text = visit.text->layers.at(static_cast<size_t>(layer));
  LT_CHECK(text.k, "layer {}: the text's keys were not made", layer);
  const Tensor a = take(w, w.normed, n, d, compute, stream),
               q = take(w, w.q, n, d, compute, stream);
  if (!normed) layer_norm(x, *norm().norm, a, stream);
  linear({.x = a, .y = q}, q_, stream);
  rms_norm(q, q_norm_, eps_, q, stream);

  std::array<KeySegment, 2> segments;
  size_t count = 0;
  const ConstTensor k = text.k, v = text.v;
  if (text.rows > 0)
    segments[count++] = {by_head(k.rows(0, text.rows), heads_),
                         by_head(v.rows(0, text.rows), heads_)};
  if (text.padding > 0)
    segments[count++] = {by_head(k.rows(text.rows, text.rows + 1), heads_),
                         by_head(v.rows(text.rows, text.rows + 1), heads_),
                         std::log(static_cast<float>(text.padding))};
  const Tensor o = take(w, w.attended, n, d, compute, stream);
  attention({.q = by_head(q, heads_),
             .segments = {segments.data(), count},
             .out = o.reshape({n, heads_, head_dim_}),
             .scale = attention_scale(head_dim_)},
            stream);
  to_stream(o, out_, x, {}, nullptr, next, w, stream);
}

NextNorm CrossAttention::norm() const {
  return {LayerNorm{norm_bias_, norm_weight_, nullptr, false, eps_}, q_.compute()};
}

size_t CrossAttention::bytes() const {
  return q_.bytes() + k_.bytes() + v_.bytes() + out_.bytes() + q_norm_.bytes() + k_norm_.bytes() +
         norm_weight_.bytes() + norm_bias_.bytes();
}

FeedForward::FeedForward(const Weights& weights, const std::string& block,
                         const TransformerConfig& config, DType compute, StreamRef stream)
    : eps_(config.eps) {
  up_ = weights.linear(block + ".ffn.net.0.proj", config.ffn_dim, config.dim(), true, compute,
                       stream);
  down_ = weights.linear(block + ".ffn.net.2", config.dim(), config.ffn_dim, true, compute, stream);
}

void FeedForward::forward(Tensor x, ConstTensor modulation, const Visit& visit, bool normed,
                          const NextNorm& next, LayerWorkspace& w, StreamRef stream) const {
  const int64_t n = x.dim(0), d = x.dim(1);
  const Tensor b = take(w, w.normed, n, d, up_.compute(), stream);
  const Tensor hidden = take(w, w.hidden, n, up_.out(), up_.compute(), stream);
  if (!normed) layer_norm(x, *norm(modulation, visit).norm, b, stream);
  linear({.x = b, .activation = Activation::gelu_tanh, .y = hidden}, up_, stream);
  to_stream(hidden, down_, x, part(modulation, 5, d), visit.modulation->row_index(), next, w,
            stream);
}

NextNorm FeedForward::norm(ConstTensor modulation, const Visit& visit) const {
  return modulated_norm(modulation, 3, visit, eps_, up_.compute());
}

size_t FeedForward::bytes() const {
  return up_.bytes() + down_.bytes();
}

}  // namespace longtake
