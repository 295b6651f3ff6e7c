#include "tests/support/random.h"

namespace longtake::testing {

OwnedTensor random_tensor(Shape shape, uint64_t seed, float scale, DType dtype) {
  OwnedTensor out(dtype, shape);
  for (int64_t i = 0; i < out.numel(); ++i) {
    uint64_t z = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(i + 1) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const float x = scale * (static_cast<float>(z >> 40) * 0x1p-23f - 1.0f);
    if (dtype == DType::bf16)
      out.as<bf16>()[i] = to_bf16(x);
    else
      out.as<float>()[i] = x;
  }
  return out;
}

}  // namespace longtake::testing
