// The UMT5 encoder (wan.md 4.2): token ids become one vector per token. Only real tokens are run;
// in the reference, padding is masked and thrown away, which gives the same result.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "kernels/linear.h"
#include "runtime/model/model_config.h"
#include "runtime/model/weights.h"

namespace longtake {

// Bucket of the distance key - query (wan.md 4.3).
int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance);

class TextEncoder {
 public:
  // `weights` must live as long as the encoder: the token table stays in its file, and only the
  // rows of a prompt's tokens are read.
  TextEncoder(const Weights& weights, const TextEncoderConfig& config, DType compute,
              StreamRef stream);

  // f32 [ids, d_model]
  OwnedTensor encode(std::span<const int32_t> ids, StreamRef stream) const;

 private:
  struct Layer {
    OwnedTensor attention_norm, feed_forward_norm;  // f32 [d_model]
    OwnedTensor bias;                               // f32 [buckets, heads]
    Linear q, k, v, o;
    Linear gate, up, down;
  };
  struct Scratch;

  void attend(const Layer& layer, Tensor x, Scratch& scratch, StreamRef stream) const;
  void feed_forward(const Layer& layer, Tensor x, Scratch& scratch, StreamRef stream) const;
  OwnedTensor buckets(int64_t tokens, StreamRef stream) const;

  const Weights* weights_;
  TextEncoderConfig config_;
  DType compute_;
  std::vector<Layer> layers_;
  OwnedTensor final_norm_;  // f32 [d_model]
};

}  // namespace longtake
