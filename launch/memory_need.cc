#include "launch/memory_need.h"

#include <sys/sysinfo.h>

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

// Does [begin, end) hold a unit of this kind (0 self-attention, 1 cross-attention, 2 feed-forward)?
bool holds(const UnitRange& units, int64_t kind) {
  return units.begin + (kind - units.begin % 3 + 3) % 3 < units.end;
}

}  // namespace

uint64_t least_bytes(const MemoryNeed& need) {
  const TransformerConfig& t = *need.transformer;
  const BlockLayout& layout = need.plan.layout;
  const int64_t frames = std::min(layout.block_frames, layout.total_frames.value());
  const int64_t tokens = frames * (need.height / t.patch[1]) * (need.width / t.patch[2]);
  const int64_t branches = need.plan.guided && need.plan.mesh.branches == 1 ? 2 : 1;
  const bool self = holds(need.units, 0), cross = holds(need.units, 1);
  // A layer keeps these from one sub-layer to the next (LayerWorkspace).
  int64_t columns = need.units.begin < need.units.end ? t.dim() : 0;  // normed
  if (self || cross) columns += 2 * t.dim();                          // q, attended
  if (self) columns += 2 * t.dim();                                   // k, v
  if (holds(need.units, 2)) columns += t.ffn_dim;
  const auto row_bytes = static_cast<uint64_t>(branches * t.dim()) * sizeof(float) +
                         static_cast<uint64_t>(columns) * size_bytes(need.compute);
  return static_cast<uint64_t>(tokens) * row_bytes;
}

uint64_t machine_bytes() {
  struct sysinfo info {};
  LT_CHECK(::sysinfo(&info) == 0, "sysinfo failed");
  return static_cast<uint64_t>(info.totalram + info.totalswap) * info.mem_unit;
}

}  // namespace longtake
