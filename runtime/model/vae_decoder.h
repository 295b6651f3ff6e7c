// The decoder of the Wan VAEs (wan.md 5.2-5.4), a latent frame at a time: the first gives one video
// frame, each later one `temporal_factor`. Memory does not depend on the length of the video.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/model/vae_layers.h"

namespace longtake {

// Doubles rows and columns, and in time when `temporal`.
class Upsampler {
 public:
  Upsampler(const Weights& weights, const std::string& prefix, int64_t in, int64_t out,
            bool temporal, DType compute, int& slots, StreamRef stream);
  // One frame becomes one (the first of a video, or not temporal) or two.
  std::vector<OwnedTensor> forward(OwnedTensor x, const VaePass& pass) const;

 private:
  OwnedTensor space(OwnedTensor x, const VaePass& pass) const;

  std::optional<ConvWeights> even_, odd_;  // the two halves of time_conv's output channels
  size_t slot_ = 0;
  ConvWeights conv_;
};

// Floating-point operations for one latent frame of h x w, after the first.
double decode_flops(const VaeConfig& config, int64_t h, int64_t w);
// Memory for frames while latents of h x w are decoded, without the weights; not less than it
// takes.
double decode_bytes(const VaeConfig& config, int64_t h, int64_t w);

class VaeDecoder {
 public:
  // compute: of the convolutions of the larger pictures, f32 or bf16; the others, and on the CPU
  // all of them, are f32 whatever is asked.
  VaeDecoder(const Weights& weights, const VaeConfig& config, DType compute, StreamRef stream);

  // Receives frames f32 [height, width, 3] in [-1, 1], in order.
  using Sink = std::function<void(ConstTensor frame)>;
  // latent: normalised model latents f32 [z, h, w] of the next latent frame.
  void decode(ConstTensor latent, const Sink& sink, StreamRef stream);
  void reset();  // the next latent frame starts a new video

  // The same in steps, for several videos at a time (the tiles of one, for instance): what the last
  // convolution gives, f32 [height / patch, width / patch, out_channels] on the host, and its
  // picture. Raw frames come from pictures() and go back there.
  using RawSink = std::function<void(OwnedTensor raw)>;
  VaeState new_state() const;
  void decode(ConstTensor latent, VaeState& state, const RawSink& sink, StreamRef stream);
  void show(OwnedTensor raw, const Sink& sink);

  const VaeConfig& config() const { return config_; }
  FramePool& pool() { return pool_; }
  FramePool& pictures() { return pool_.on_host() ? pool_ : host_pool_; }

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::optional<Upsampler> up;
    int64_t in = 0, out = 0;
    bool temporal = false;
  };
  OwnedTensor denormalised(ConstTensor latent, StreamRef stream);
  void run_level(size_t level, OwnedTensor x, const RawSink& sink, const VaePass& pass);
  std::vector<OwnedTensor> duplicated(const Level& level, ConstTensor x, const VaePass& pass);

  VaeConfig config_;
  FramePool pool_, host_pool_;  // of the stream's device; for pictures, where that is not the host
  int slots_ = 0;
  Linear post_quant_;
  CausalConv conv_in_;
  std::optional<MidBlock> mid_;
  std::vector<Level> levels_;
  std::optional<VaeHead> head_;
  VaeState state_;
};

}  // namespace longtake
