// Decoding, latent frame by latent frame.
#include <doctest/doctest.h>

#include <cstring>

#include "runtime/model/vae_decoder.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

// latent [z, T, h, w] -> frames [3, F, H, W]
OwnedTensor decode_all(VaeDecoder& decoder, const OwnedTensor& latent, const Shape& frames_shape) {
  const int64_t z = latent.dim(0), count = latent.dim(1), plane = latent.dim(2) * latent.dim(3);
  OwnedTensor frames(DType::f32, frames_shape);
  const int64_t pixels = frames_shape[2] * frames_shape[3];
  int64_t produced = 0;
  decoder.reset();
  for (int64_t t = 0; t < count; ++t) {
    OwnedTensor one(DType::f32, {z, latent.dim(2), latent.dim(3)});
    for (int64_t c = 0; c < z; ++c)
      std::memcpy(one.as<float>() + c * plane, latent.as<float>() + (c * count + t) * plane,
                  static_cast<size_t>(plane) * sizeof(float));
    decoder.decode(
        one,
        [&](ConstTensor frame) {
          REQUIRE(produced < frames_shape[1]);
          REQUIRE(frame.shape == Shape({frames_shape[2], frames_shape[3], 3}));
          for (int64_t c = 0; c < 3; ++c)
            for (int64_t p = 0; p < pixels; ++p)
              frames.as<float>()[(c * frames_shape[1] + produced) * pixels + p] =
                  frame.as<float>()[p * 3 + c];
          ++produced;
        },
        test_stream());
  }
  REQUIRE(produced == frames_shape[1]);
  return frames;
}

void compare_decoded(GoldenCase& golden, const std::filesystem::path& path) {
  const double limit = golden.json().at("tolerance").at("max_abs");
  const Weights weights(path, WeightsOf::vae);
  VaeDecoder decoder(weights, read_vae_config(golden.model()), test_stream());
  for (const auto& run : golden.json().at("decode")) {
    const std::string key = run.at("key");
    const OwnedTensor expected = golden.expected(key + ".frames");
    // Twice through one decoder: the second video must not see the first.
    for (int round = 0; round < 2; ++round)
      golden.compare(
          key, decode_all(decoder, golden.input(key + ".latent_normalised"), expected.shape()),
          expected, limit);
  }
}

}  // namespace

void run_vae_case(GoldenCase& golden) {
  compare_decoded(golden, golden.model());
  if (golden.name() == "vae/wan21_small")
    compare_decoded(golden, golden_folder() / "models" / "vae21-small-original");
}

}  // namespace longtake::testing
