#include "launch/calibrate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/attention.h"
#include "kernels/base/isa.h"
#include "kernels/conv.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "launch/machine.h"
#include "parallel/comm/loopback_channel.h"
#include "parallel/cost/cost_model.h"
#include "runtime/model/vae_decoder.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> all) {
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
                   all.end());
  return all[all.size() / 2];
}

constexpr int64_t kGpuScale = 32;  // a GPU needs more rows for its rate than a core

// Seconds of `issue`, done: the median of at least three runs, and of more while `budget_s` lasts;
// the first run warms up.
double median_seconds(double budget_s, StreamRef stream, const std::function<void()>& issue) {
  constexpr size_t kLeast = 3, kMost = 200;
  const auto work = [&] {
    issue();
    stream.synchronize();
  };
  const Clock::time_point start = Clock::now();
  work();
  std::vector<double> all;
  while (all.size() < kLeast || (all.size() < kMost && since(start) < budget_s)) {
    const Clock::time_point one = Clock::now();
    work();
    all.push_back(since(one));
  }
  return median(std::move(all));
}

// Small numbers of both signs; no kernel here is faster or slower for others.
OwnedTensor numbers(DType dtype, const Shape& shape, StreamRef stream) {
  OwnedTensor f32(DType::f32, shape);
  for (int64_t i = 0; i < shape.numel(); ++i)
    f32.as<float>()[i] = 0.01f * static_cast<float>(i % 17 - 8);
  if (stream.on_gpu()) f32 = to_device(f32, stream);
  if (dtype == DType::f32) return f32;
  OwnedTensor out(dtype, shape, stream.device());
  convert(f32, out, stream);
  return out;
}

// Weights of the products of one layer: four of self-attention, two of cross-attention, the
// feed-forward.
struct LayerWeights {
  std::vector<Linear> square;
  Linear up, down;
};

// FLOP/s of the products of one layer after the other, as a visit has them: with the feed-forward's
// activation and down onto the residual, and with weights that another layer has driven from the
// nearest cache.
double linear_rate(const RateProbe& p, DType dtype, double budget_s, StreamRef stream) {
  constexpr int kSquares = 6;
  constexpr double kCache = 16e6;  // bytes of weights that are worth going round
  const int64_t scale = stream.on_gpu() ? kGpuScale : 1;
  const double kEnough = 2e9 * static_cast<double>(scale * scale);  // FLOP of a run
  const int64_t d = std::min<int64_t>(p.dim, 1536 * scale);
  const int64_t f = std::min<int64_t>(p.ffn, 4096 * scale);
  const double numbers_of_layer = static_cast<double>(kSquares * d * d + 2 * d * f);
  const double row_flops = 2 * numbers_of_layer;
  const int64_t rows = std::min(
      p.tokens, std::clamp<int64_t>(static_cast<int64_t>(kEnough / row_flops), 64, 512 * scale));
  const auto weight = [&](int64_t out, int64_t in) {
    return Linear(numbers(dtype, {out, in}, stream), {}, dtype, stream);
  };
  const double layer_bytes = numbers_of_layer * static_cast<double>(size_bytes(dtype));
  std::vector<LayerWeights> layers(static_cast<size_t>(std::clamp(kCache / layer_bytes, 1., 8.)));
  for (LayerWeights& layer : layers) {
    for (int i = 0; i < kSquares; ++i) layer.square.push_back(weight(d, d));
    layer.up = weight(f, d), layer.down = weight(d, f);
  }
  const OwnedTensor x = numbers(dtype, {rows, d}, stream);
  OwnedTensor y(dtype, {rows, d}, stream.device()), hidden(dtype, {rows, f}, stream.device());
  OwnedTensor stream_x(DType::f32, {rows, d}, stream.device());
  fill_zero(stream_x, stream);
  size_t turn = 0;
  const auto work = [&] {
    const LayerWeights& layer = layers[turn++ % layers.size()];
    for (const Linear& square : layer.square) linear({.x = x, .y = y}, square, stream);
    linear({.x = x, .activation = Activation::gelu_tanh, .y = hidden}, layer.up, stream);
    linear({.x = hidden, .residual = stream_x}, layer.down, stream);
  };
  return static_cast<double>(rows) * row_flops / median_seconds(budget_s, stream, work);
}

// FLOP/s of self-attention, with the share of its keys before and behind the block's own that a
// visit has.
double attention_rate(const RateProbe& p, DType dtype, double budget_s, StreamRef stream) {
  const int64_t scale = stream.on_gpu() ? kGpuScale : 1;
  const int64_t head = p.dim / p.heads, heads = std::min<int64_t>(p.heads, 4 * scale);
  const int64_t queries = std::min<int64_t>(p.tokens, 256 * scale);
  const int64_t keys = std::min<int64_t>(p.keys, 3072 * scale);
  const OwnedTensor q = numbers(dtype, {queries, heads, head}, stream),
                    k = numbers(dtype, {keys, heads, head}, stream),
                    v = numbers(dtype, {keys, heads, head}, stream);
  OwnedTensor out(dtype, {queries, heads, head}, stream.device());
  const int64_t beside = keys * std::max<int64_t>(0, p.keys - p.tokens) / (2 * p.keys);
  std::vector<KeySegment> segments;
  const std::array<int64_t, 4> ends{0, beside, keys - beside, keys};
  for (size_t i = 0; i + 1 < ends.size(); ++i)
    if (ends[i] < ends[i + 1])
      segments.push_back(
          {k.view().rows(ends[i], ends[i + 1]), v.view().rows(ends[i], ends[i + 1])});
  AttentionArgs args;
  args.q = q;
  args.segments = segments;
  args.out = out;
  args.scale = 1 / std::sqrt(static_cast<float>(head));
  const double flops = 4.0 * static_cast<double>(queries * keys * heads * head);
  return flops / median_seconds(budget_s, stream, [&] { attention(args, stream); });
}

// Bytes/s of a modulated norm, as cost_model counts them: f32 in, `dtype` out.
double memory_rate(const RateProbe& p, DType dtype, double budget_s, StreamRef stream) {
  const int64_t rows = std::min<int64_t>(p.tokens, stream.on_gpu() ? 1 << 20 : 1024), d = p.dim;
  const OwnedTensor x = numbers(DType::f32, {rows, d}, stream),
                    shift = numbers(DType::f32, {1, d}, stream);
  OwnedTensor y(dtype, {rows, d}, stream.device());
  const double bytes = static_cast<double>(x.bytes() + y.bytes());
  return bytes / median_seconds(budget_s, stream, [&] {
           layer_norm_modulate(x, shift, shift, nullptr, 1e-6f, y, stream);
         });
}

double operator_seconds(double budget_s, StreamRef stream) {
  const OwnedTensor x = numbers(DType::f32, {8, 64}, stream),
                    weight = numbers(DType::f32, {64}, stream);
  OwnedTensor y(DType::f32, {8, 64}, stream.device());
  return median_seconds(budget_s, stream, [&] { rms_norm(x, weight, 1e-6f, y, stream); });
}

// Of a 3 x 3 x 3 convolution of 96 channels.
double conv_rate(DType dtype, double budget_s, StreamRef stream) {
  const int64_t side = stream.on_gpu() ? 256 : 32;
  constexpr int64_t channels = 96;
  const ConvWeights weights(numbers(DType::f32, {channels, channels, 3, 3, 3}, stream), {}, 1,
                            dtype, stream);
  const OwnedTensor x = numbers(weights.compute(), {side, side, channels}, stream);
  OwnedTensor y(DType::f32, {side, side, channels}, stream.device());
  const std::array<ConstTensor, 3> frames{x, x, x};
  const double flops = 2.0 * 27 * channels * channels * static_cast<double>(side * side);
  return flops / median_seconds(budget_s, stream, [&] {
           conv(frames, weights, {1, 1, 1, 1}, false, y, stream);
         });
}

// Of the VAE itself: one latent frame after the first.
double decode_rate(const RateProbe& p, DType dtype, double budget_s, StreamRef stream) {
  const Weights weights(p.vae, WeightsOf::vae);
  const VaeConfig config = read_vae_config(p.vae);
  VaeDecoder decoder(weights, config, dtype, stream);
  const OwnedTensor latent = numbers(DType::f32, {config.z_dim, p.latent_height, p.latent_width},
                                     StreamRef(stream.pool()));
  const VaeDecoder::Sink sink = [](ConstTensor) {};
  decoder.decode(latent, sink, stream);
  return p.decode_flops /
         median_seconds(budget_s, stream, [&] { decoder.decode(latent, sink, stream); });
}

constexpr double kSmallDecode = 2e9;  // FLOP: below a tenth of a second anywhere

// GB/s and microseconds of a message between two ranks that are threads.
struct LinkRates {
  double gb_per_s, latency_us;
};

// Half of a message's way there and back, copies in and out of the buffers left out of neither.
double message_seconds(size_t bytes, int messages) {
  LoopbackJob job(2, Deadline{std::chrono::seconds(10)});
  const auto a = job.transport(0), b = job.transport(1);
  const auto there = a->open_send(1, 0, bytes, 2);
  const auto arrives = b->open_receive(0, 0, bytes, 2);
  const auto back = b->open_send(0, 1, bytes, 2);
  const auto returned = a->open_receive(1, 1, bytes, 2);
  std::vector<char> source(bytes, 1), sink(bytes);
  std::thread peer([&] {
    for (int i = 0; i < messages; ++i) {
      std::vector<char> own(bytes);
      std::memcpy(own.data(), arrives->receive(bytes, "a probe"), bytes);
      arrives->release();
      std::memcpy(back->acquire("a probe"), own.data(), bytes);
      back->send(bytes);
    }
  });
  std::vector<double> all;
  for (int i = 0; i < messages; ++i) {
    const Clock::time_point start = Clock::now();
    std::memcpy(there->acquire("a probe"), source.data(), bytes);
    there->send(bytes);
    std::memcpy(sink.data(), returned->receive(bytes, "a probe"), bytes);
    returned->release();
    all.push_back(since(start) / 2);
  }
  peer.join();
  return median(std::move(all));
}

LinkRates link_rates() {
  constexpr size_t kLarge = size_t{1} << 22;
  const double small = message_seconds(8, 60), large = message_seconds(kLarge, 12);
  return {static_cast<double>(kLarge) / std::max(1e-9, large - small) * 1e-9, small * 1e6};
}

}  // namespace

RateProbe probe_of(const PlanSpec& plan, const ModelShape& model) {
  const VisitShape visit = full_visit(plan, model);
  RateProbe out;
  out.dim = model.dim;
  out.heads = model.heads;
  out.ffn = model.ffn;
  out.tokens = visit.tokens;
  out.keys = visit.keys;
  out.latent_height = model.latent_rows;
  out.latent_width = model.latent_columns;
  out.decode_flops = model.decode_flops_per_frame;
  return out;
}

HardwareFile measure_rates(const RateProbe& p, StreamRef stream) {
  HardwareFile out;
  out.overlap = stream.on_gpu() ? 1 : 0;
  const double slice = p.seconds / static_cast<double>(3 * p.dtypes.size() + 3);
  const bool own_vae = !p.vae.empty() && p.decode_flops > 0 && p.decode_flops < kSmallDecode;
  const auto conv_of = [&](DType dtype) {
    return own_vae ? decode_rate(p, dtype, slice, stream) : conv_rate(dtype, slice, stream);
  };
  double conv = 0;
  for (const DType dtype : p.dtypes) {
    HardwareFile::Rates& rates = dtype == DType::bf16 ? out.bf16 : out.f32;
    rates.linear = linear_rate(p, dtype, slice, stream) * 1e-9;
    rates.attention = attention_rate(p, dtype, slice, stream) * 1e-9;
    // The CPU convolves in f32 whatever is asked.
    if (conv == 0 || stream.on_gpu()) conv = conv_of(dtype);
    rates.conv = conv * 1e-9;
    // The slowest where there are several: f32 moves more.
    const double memory = memory_rate(p, dtype, slice, stream) * 1e-9;
    out.memory_gb_per_s = out.memory_gb_per_s > 0 ? std::min(out.memory_gb_per_s, memory) : memory;
  }
  out.operator_us = operator_seconds(slice / 2, stream) * 1e6;
  const LinkRates link = link_rates();
  out.link_gb_per_s = link.gb_per_s;
  out.link_latency_us = link.latency_us;
  out.memory_gb = p.memory_bytes * 1e-9;
  return out;
}

HardwareFile measure_machine(const RateProbe& probe, int threads) {
  ThreadPool pool(choose_threads(threads));
  RateProbe whole = probe;
  whole.memory_bytes = machine_memory_bytes();
  HardwareFile out = measure_rates(whole, StreamRef(pool));
  out.name = fmt::format("this machine ({}, {} thread{}, {})", processor_name(), pool.threads(),
                         pool.threads() == 1 ? "" : "s", name(active_isa()));
  return out;
}

std::string calibrate(const RunConfig& config, int threads) {
  RateProbe probe;
  std::string of = "a Wan 2.1 T2V-1.3B";
  if (!config.model.empty() || !config.model_sizes.empty()) {
    const ModelSizes sizes = find_model_sizes(config);
    const RunShape shape = run_shape(config, sizes);
    probe = probe_of(shape.plan, model_shape(config, sizes, shape));
    if (std::filesystem::is_directory(config.model))
      probe.vae = read_model_folder(config.model).vae;
    of = sizes.name;
  }
  probe.dtypes = {DType::f32, DType::bf16};
  probe.seconds = 6;
  return fmt::format(
             "# Measured by `longtake plan --calibrate` at the shapes of {}: medians; links "
             "between "
             "threads of one process.\n",
             of) +
         to_yaml(measure_machine(probe, threads));
}

}  // namespace longtake
