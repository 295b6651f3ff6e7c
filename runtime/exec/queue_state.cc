#include "runtime/exec/queue_state.h"

#include "kernels/base/error.h"

namespace longtake {

size_t QueueState::bytes() const {
  size_t total = 0;
  for (const StatePart& part : parts) total += part.data.bytes();
  return total;
}

std::string state_name(const Latent& latent, const char* what) {
  return fmt::format("b{:08d}.v{}.{}", latent.block.value, latent.version.value, what);
}

std::string state_name(const Features& features, bool conditional) {
  return fmt::format("b{:08d}.s{}.{}.{}", features.block.value, features.step.value,
                     name(features.edge), conditional ? "conditional" : "unconditional");
}

}  // namespace longtake
