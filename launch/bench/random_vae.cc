#include "launch/bench/random_vae.h"

#include <cmath>

namespace longtake {

namespace {

constexpr float kDeviation = 0.1f;  // of gammas around 1
constexpr float kBiasDeviation = 0.02f;

class Layers {
 public:
  explicit Layers(const VaeConfig& config) : config_(config) {}
  std::vector<VaeConv> all();

 private:
  void add(const std::string& name, const Shape& shape, bool in_time = false) {
    out_.push_back({name, shape, area_, frames_, in_time});
  }
  void add_block(const std::string& prefix, int64_t in, int64_t out) {
    add(prefix + ".conv1", {out, in, 3, 3, 3});
    add(prefix + ".conv2", {out, out, 3, 3, 3});
    if (in != out) add(prefix + ".conv_shortcut", {out, in, 1, 1, 1});
  }
  void add_upsampler(const std::string& prefix, int64_t in, int64_t out, bool temporal) {
    if (temporal) {
      add(prefix + ".time_conv", {2 * in, in, 3, 1, 1}, true);
      frames_ *= 2;
    }
    area_ *= 4;
    add(prefix + ".resample.1", {out, in, 3, 3});
  }

  const VaeConfig& config_;
  std::vector<VaeConv> out_;
  int64_t area_ = 1, frames_ = 1;
};

std::vector<VaeConv> Layers::all() {
  const VaeConfig& c = config_;
  const size_t levels = c.dim_mult.size();
  int64_t dim = c.decoder_base_dim * c.dim_mult.back();
  add("post_quant_conv", {c.z_dim, c.z_dim, 1, 1, 1});
  add("decoder.conv_in", {dim, c.z_dim, 3, 3, 3});
  add_block("decoder.mid_block.resnets.0", dim, dim);
  add("decoder.mid_block.attentions.0.to_qkv", {3 * dim, dim, 1, 1});
  add("decoder.mid_block.attentions.0.proj", {dim, dim, 1, 1});
  add_block("decoder.mid_block.resnets.1", dim, dim);
  for (size_t i = 0; i < levels; ++i) {
    const std::string prefix = "decoder.up_blocks." + std::to_string(i);
    const int64_t out = c.decoder_base_dim * c.dim_mult[levels - 1 - i];
    for (int64_t r = 0; r <= c.res_blocks; ++r, dim = out)
      add_block(prefix + ".resnets." + std::to_string(r), dim, out);
    if (i + 1 == levels) break;
    dim = c.residual ? out : out / 2;
    add_upsampler(prefix + (c.residual ? ".upsampler" : ".upsamplers.0"), out, dim,
                  c.temporal_downsample[levels - 2 - i]);
  }
  add("decoder.conv_out", {c.out_channels, dim, 3, 3, 3});
  return out_;
}

// The gamma in front of a convolution, empty when there is none.
std::string gamma_before(const std::string& conv) {
  const auto with_last = [&](const std::string& last, const std::string& instead) {
    return conv.ends_with(last) ? conv.substr(0, conv.size() - last.size()) + instead : "";
  };
  for (const auto& [last, instead] : {std::pair{".conv1", ".norm1.gamma"},
                                      {".conv2", ".norm2.gamma"},
                                      {".to_qkv", ".norm.gamma"},
                                      {".conv_out", ".norm_out.gamma"}}) {
    const std::string name = with_last(last, instead);
    if (!name.empty()) return name;
  }
  return "";
}

}  // namespace

std::vector<VaeConv> vae_decoder_convs(const VaeConfig& config) {
  return Layers(config).all();
}

std::vector<RandomTensor> vae_decoder_tensors(const VaeConfig& config) {
  std::vector<RandomTensor> tensors;
  for (const VaeConv& conv : vae_decoder_convs(config)) {
    const auto in = static_cast<float>(conv.shape.inner_numel());
    tensors.push_back({conv.name + ".weight", conv.shape, 1 / std::sqrt(in)});
    tensors.push_back({conv.name + ".bias", {conv.shape[0]}, kBiasDeviation});
    const std::string gamma = gamma_before(conv.name);
    if (!gamma.empty()) tensors.push_back({gamma, {conv.shape[1], 1, 1, 1}, kDeviation, 1.0f});
  }
  return tensors;
}

double vae_decoder_flops(const VaeConfig& config, int64_t latent_frames, int64_t h, int64_t w) {
  const auto positions = static_cast<double>(h * w);
  double first = 0, later = 0, width = 0;
  for (const VaeConv& conv : vae_decoder_convs(config)) {
    const double once = 2.0 * static_cast<double>(conv.shape.numel() * conv.area) * positions;
    if (!conv.in_time) first += once;
    later += once * static_cast<double>(conv.frames);
    if (conv.name == "decoder.conv_in") width = static_cast<double>(conv.shape[0]);
  }
  const double attention = 4 * positions * positions * width;
  return first + attention + static_cast<double>(latent_frames - 1) * (later + attention);
}

}  // namespace longtake
