// Decoding, latent frame by latent frame, and encoding, video frame by video frame.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "runtime/model/vae_encoder.h"
#include "runtime/model/vae_tiles.h"
#include "runtime/stream/block_file.h"
#include "tests/golden/golden_case.h"
#include "tests/support/scratch_folder.h"

namespace longtake::testing {

namespace {

// Frame t of an array [channels, frames, height, width], as [channels, height, width].
OwnedTensor frame_of(const OwnedTensor& all, int64_t t) {
  OwnedTensor one(DType::f32, {all.dim(0), all.dim(2), all.dim(3)});
  const int64_t plane = all.dim(2) * all.dim(3);
  for (int64_t c = 0; c < all.dim(0); ++c)
    std::memcpy(one.as<float>() + c * plane, all.as<float>() + (c * all.dim(1) + t) * plane,
                static_cast<size_t>(plane) * sizeof(float));
  return one;
}

// The way back: frame [channels, height, width] into place t.
void put_frame(ConstTensor one, int64_t t, OwnedTensor& all) {
  REQUIRE(t < all.dim(1));
  REQUIRE(one.shape == Shape({all.dim(0), all.dim(2), all.dim(3)}));
  const int64_t plane = all.dim(2) * all.dim(3);
  for (int64_t c = 0; c < all.dim(0); ++c)
    std::memcpy(all.as<float>() + (c * all.dim(1) + t) * plane, one.as<float>() + c * plane,
                static_cast<size_t>(plane) * sizeof(float));
}

// f32 [height, width, channels] <-> [channels, height, width]
OwnedTensor transposed(ConstTensor x, int64_t rows, int64_t columns, Shape shape) {
  OwnedTensor y(DType::f32, shape);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      y.as<float>()[c * rows + r] = x.as<float>()[r * columns + c];
  return y;
}

// latent [z, T, h, w] -> frames [3, F, H, W], `step` latent frames at a time.
OwnedTensor decode_all(TiledVaeDecoder& decoder, const OwnedTensor& latent, int64_t step,
                       const Shape& frames_shape) {
  OwnedTensor frames(DType::f32, frames_shape);
  const int64_t height = frames_shape[2], width = frames_shape[3];
  int64_t produced = 0;
  const auto take = [&](ConstTensor frame) {
    REQUIRE(frame.shape == Shape({height, width, 3}));
    put_frame(transposed(frame, height * width, 3, {3, height, width}), produced++, frames);
  };
  decoder.reset();
  const OwnedTensor all = time_first(latent);
  for (int64_t t = 0; t < all.dim(0); t += step)
    decoder.decode(all.view().rows(t, std::min(all.dim(0), t + step)), take, test_stream());
  REQUIRE(produced == frames_shape[1]);
  return frames;
}

struct Encoded {
  OwnedTensor mean, latent;  // [z, T, h, w]
};

// frames u8 [3, F, H, W]
Encoded encode_all(VaeEncoder& encoder, const OwnedTensor& frames, const Shape& latent_shape) {
  Encoded out{OwnedTensor(DType::f32, latent_shape), OwnedTensor(DType::f32, latent_shape)};
  const int64_t height = frames.dim(2), width = frames.dim(3);
  OwnedTensor pixels(DType::f32, frames.shape());
  for (int64_t i = 0; i < frames.numel(); ++i)
    pixels.as<float>()[i] = 2 * (static_cast<float>(frames.as<uint8_t>()[i]) / 255) - 1;
  int64_t produced = 0;
  const auto take = [&](ConstTensor mean, ConstTensor latent) {
    put_frame(mean, produced, out.mean);
    put_frame(latent, produced++, out.latent);
  };
  // A video that is given up in the middle of a pair of frames leaves nothing behind.
  encoder.reset();
  for (int64_t t = 0; t < 2; ++t)
    encoder.encode(
        transposed(frame_of(pixels, 0), 3, height * width, {height, width, 3}),
        [](ConstTensor, ConstTensor) {}, host_stream());
  encoder.reset();
  for (int64_t t = 0; t < frames.dim(1); ++t) {
    const OwnedTensor frame =
        transposed(frame_of(pixels, t), 3, height * width, {height, width, 3});
    encoder.encode(frame, take, host_stream());
    CHECK(produced == 1 + t / encoder.config().temporal_factor);  // as soon as it can be known
  }
  REQUIRE(produced == latent_shape[1]);
  return out;
}

// Only a GPU has a decoder that computes in bf16. The figure, as for the transformer.
constexpr double kBf16Limit = 2e-2;

void compare_in_bf16(GoldenCase& golden, const Weights& weights, const VaeConfig& config) {
  VaeDecoder whole(weights, config, DType::bf16, test_stream());
  const ScratchFolder scratch;
  TiledVaeDecoder decoder(whole, golden.json().value("tile", 0), scratch.path());
  for (const auto& run : golden.json().at("decode")) {
    const std::string key = run.at("key");
    const OwnedTensor expected = golden.expected(key + ".frames");
    const OwnedTensor latent = golden.input(key + ".latent_normalised");
    golden.compare_relative(key + ".bf16", decode_all(decoder, latent, 2, expected.shape()),
                            expected, kBf16Limit);
  }
}

// Twice through one decoder and one encoder: the second video must not see the first.
void compare_vae(GoldenCase& golden, const std::filesystem::path& path) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  const VaeConfig config = read_vae_config(golden.model());
  const Weights weights(path, WeightsOf::vae);
  VaeDecoder whole(weights, config, DType::f32, test_stream());
  const ScratchFolder scratch;
  TiledVaeDecoder decoder(whole, golden.json().value("tile", 0), scratch.path());
  VaeEncoder encoder(weights, config, host_stream());  // on the CPU only
  for (int round = 0; round < 2; ++round) {
    for (const auto& run : golden.json().at("decode")) {
      const std::string key = run.at("key");
      const OwnedTensor expected = golden.expected(key + ".frames");
      const OwnedTensor latent = golden.input(key + ".latent_normalised");
      golden.compare(key, decode_all(decoder, latent, 1 + round, expected.shape()), expected,
                     limit);
    }
    for (const auto& run : golden.json().at("encode")) {
      const std::string key = run.at("key");
      const OwnedTensor expected = golden.expected(key + ".mean");
      const Encoded got =
          encode_all(encoder, golden.input(key + ".frames_uint8"), expected.shape());
      golden.compare(key + ".mean", got.mean, expected, limit);
      golden.compare(key + ".latent_normalised", got.latent,
                     golden.expected(key + ".latent_normalised"), limit);
    }
  }
  if (tests_on_gpu()) compare_in_bf16(golden, weights, config);
}

}  // namespace

void run_vae_case(GoldenCase& golden) {
  compare_vae(golden, golden.model());
  if (golden.name() == "vae/wan21_small")
    compare_vae(golden, golden_folder() / "models" / "vae21-small-original");
}

}  // namespace longtake::testing
