#include "runtime/model/text_encoder.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace longtake {

int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance) {
  const int64_t half = buckets / 2, exact = half / 2;
  const int64_t side = distance > 0 ? half : 0;
  const int64_t r = std::abs(distance);
  if (r < exact) return side + r;
  // At powers of two the quotient is a whole number that rounding must not make smaller; other
  // distances are at least 1e-2 away from one.
  const double octaves = std::log(static_cast<double>(r) / static_cast<double>(exact)) /
                         std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const auto step = static_cast<int64_t>(octaves * static_cast<double>(half - exact) + 1e-6);
  return side + std::min(half - 1, exact + step);
}

// Buffers of one call, used by all layers.
struct TextEncoder::Scratch {
  OwnedTensor h;                 // [tokens, d_model]
  OwnedTensor q, k, v, context;  // [tokens, heads * d_kv]
  OwnedTensor gate, up;          // [tokens, d_ff]
  OwnedTensor bias;              // f32 [heads, tokens, tokens]
  OwnedTensor bucket;            // i32 [2 tokens - 1]: of key - query

  Scratch(const TextEncoderConfig& c, DType dtype, int64_t tokens, const Device& device)
      : h(dtype, {tokens, c.d_model}, device),
        q(dtype, {tokens, c.heads * c.d_kv}, device),
        k(dtype, {tokens, c.heads * c.d_kv}, device),
        v(dtype, {tokens, c.heads * c.d_kv}, device),
        context(dtype, {tokens, c.heads * c.d_kv}, device),
        gate(dtype, {tokens, c.d_ff}, device),
        up(dtype, {tokens, c.d_ff}, device),
        bias(DType::f32, {c.heads, tokens, tokens}, device) {}
};

TextEncoder::TextEncoder(const Weights& weights, const TextEncoderConfig& config, DType compute,
                         StreamRef stream)
    : weights_(&weights), config_(config), compute_(compute) {
  const TextEncoderConfig& c = config_;
  if (c.buckets < 4 || c.buckets % 4 != 0 || c.max_distance <= c.buckets / 4)
    fail(ExitCode::bad_data,
         "expected a multiple of 4 relative buckets and a larger distance, "
         "found {} and {}",
         c.buckets, c.max_distance);
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = fmt::format("encoder.block.{}.layer.", i);
    const std::string attention = block + "0.SelfAttention.";
    const std::string dense = block + "1.DenseReluDense.";
    const auto vector = [&](const std::string& name) {
      return weights.read(name, {c.d_model}, DType::f32, stream);
    };
    const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
      return weights.linear(name, out, in, false, compute, stream);
    };
    const int64_t inner = c.heads * c.d_kv;
    layers_.push_back(
        {vector(block + "0.layer_norm.weight"), vector(block + "1.layer_norm.weight"),
         weights.read(attention + "relative_attention_bias.weight", {c.buckets, c.heads},
                      DType::f32, stream),
         matrix(attention + "q", inner, c.d_model), matrix(attention + "k", inner, c.d_model),
         matrix(attention + "v", inner, c.d_model), matrix(attention + "o", c.d_model, inner),
         matrix(dense + "wi_0", c.d_ff, c.d_model), matrix(dense + "wi_1", c.d_ff, c.d_model),
         matrix(dense + "wo", c.d_model, c.d_ff)});
  }
  final_norm_ = weights.read("encoder.final_layer_norm.weight", {c.d_model}, DType::f32, stream);
}

// Of the distances 1 - tokens .. tokens - 1.
OwnedTensor TextEncoder::buckets(int64_t tokens, StreamRef stream) const {
  OwnedTensor out(DType::i32, {2 * tokens - 1});
  for (int64_t d = 1 - tokens; d < tokens; ++d)
    out.as<int32_t>()[d + tokens - 1] =
        static_cast<int32_t>(relative_bucket(d, config_.buckets, config_.max_distance));
  return stream.on_gpu() ? to_device(out, stream) : std::move(out);
}

void TextEncoder::attend(const Layer& layer, Tensor x, Scratch& s, StreamRef stream) const {
  rms_norm(x, layer.attention_norm, config_.eps, s.h, stream);
  linear({.x = s.h, .y = s.q}, layer.q, stream);
  linear({.x = s.h, .y = s.k}, layer.k, stream);
  linear({.x = s.h, .y = s.v}, layer.v, stream);
  // It depends on key - query alone.
  relative_bias(layer.bias, s.bucket, s.bias, stream);
  const Shape split{x.dim(0), config_.heads, config_.d_kv};
  const KeySegment keys{.k = s.k.view().reshape(split), .v = s.v.view().reshape(split)};
  AttentionArgs args;
  args.q = s.q.view().reshape(split);
  args.segments = {&keys, 1};
  args.out = s.context.view().reshape(split);
  args.scale = 1;  // UMT5 does not scale its logits
  args.bias = s.bias;
  attention(args, stream);
  linear({.x = s.context, .residual = x}, layer.o, stream);
}

void TextEncoder::feed_forward(const Layer& layer, Tensor x, Scratch& s, StreamRef stream) const {
  rms_norm(x, layer.feed_forward_norm, config_.eps, s.h, stream);
  linear({.x = s.h, .y = s.gate}, layer.gate, stream);
  linear({.x = s.h, .y = s.up}, layer.up, stream);
  gated_gelu(s.gate, s.up, s.gate, stream);
  linear({.x = s.gate, .residual = x}, layer.down, stream);
}

OwnedTensor TextEncoder::encode(std::span<const int32_t> ids, StreamRef stream) const {
  LT_CHECK(!ids.empty(), "a prompt has at least the token of its end");
  for (const int32_t id : ids)
    if (id < 0 || id >= config_.vocab)
      fail(ExitCode::bad_data,
           "the tokenizer says token {}, but the text encoder knows {}: they do "
           "not belong together",
           id, config_.vocab);
  const auto tokens = static_cast<int64_t>(ids.size());
  OwnedTensor x = weights_->read_rows("shared.weight", {config_.vocab, config_.d_model}, ids,
                                      DType::f32, stream);
  Scratch scratch(config_, compute_, tokens, stream.device());
  scratch.bucket = buckets(tokens, stream);
  for (const Layer& layer : layers_) {
    attend(layer, x, scratch, stream);
    feed_forward(layer, x, scratch, stream);
  }
  OwnedTensor out(DType::f32, x.shape(), stream.device());
  rms_norm(x, final_norm_, config_.eps, out, stream);
  return stream.on_gpu() ? to_host(out, stream) : std::move(out);
}

}  // namespace longtake
