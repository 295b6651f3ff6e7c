// The encoder of the Wan VAEs (wan.md 5.2-5.4), a video frame at a time: the first gives one latent
// frame, then every `temporal_factor` frames give one. Memory does not depend on the length of the
// video.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/model/vae_layers.h"

namespace longtake {

// Halves rows and columns, and in time when `temporal`.
class Downsampler {
 public:
  Downsampler(const Weights& weights, const std::string& prefix, int64_t channels, bool temporal,
              int& slots, StreamRef stream);
  // `gives`: this frame ends a pair; otherwise it is only remembered and nothing comes back. The
  // first frame of a video comes back without its convolution in time.
  std::optional<OwnedTensor> forward(OwnedTensor x, bool gives, const VaePass& pass) const;

 private:
  ConvWeights conv_;
  std::optional<ConvWeights> time_conv_;  // stride 2 in time: run for every second frame
  size_t slot_ = 0;
};

class VaeEncoder {
 public:
  VaeEncoder(const Weights& weights, const VaeConfig& config, StreamRef stream);

  // Receives latent frames f32 [z, h, w]: the encoder's mean, and that normalised for the model.
  using Sink = std::function<void(ConstTensor mean, ConstTensor latent)>;
  // frame: f32 [height, width, 3] in [-1, 1], both sides multiples of `spatial_factor`.
  void encode(ConstTensor frame, const Sink& sink, StreamRef stream);
  void reset();  // the next frame starts a new video
  const VaeConfig& config() const { return config_; }

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::optional<Downsampler> down;
    int64_t in = 0, out = 0;
    bool temporal = false;
    bool half = false;     // the first frame of a pair has been seen
    OwnedTensor shortcut;  // of the residual VAE, summed over the frames of a pair
  };
  void add_levels(const Weights& weights, StreamRef stream);
  OwnedTensor patches(ConstTensor frame);
  void run_level(size_t level, OwnedTensor x, const Sink& sink, const VaePass& pass);
  void average(Level& level, ConstTensor x, int64_t place);
  void finish(OwnedTensor x, const Sink& sink, const VaePass& pass);

  VaeConfig config_;
  FramePool pool_;
  int slots_ = 0;
  CausalConv conv_in_;
  std::vector<Level> levels_;
  std::optional<MidBlock> mid_;
  std::optional<VaeHead> head_;
  Linear quant_;  // only the rows of the mean
  VaeState state_;
};

}  // namespace longtake
