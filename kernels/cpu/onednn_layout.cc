#include "kernels/cpu/onednn_layout.h"

namespace longtake::cpu {

namespace {

using dnnl::memory;

struct Blocking {
  memory::dims padded, strides, blocks, axes;
};

std::optional<Blocking> blocking_of(const memory::desc& desc) {
#if DNNL_VERSION_MAJOR >= 3
  if (desc.get_format_kind() != memory::format_kind::blocked) return {};
  return Blocking{desc.get_padded_dims(), desc.get_strides(), desc.get_inner_blks(),
                  desc.get_inner_idxs()};
#else
  const dnnl_memory_desc_t& d = desc.data;
  if (d.format_kind != dnnl_blocked || d.extra.flags != dnnl_memory_extra_flag_none ||
      d.offset0 != 0)
    return {};
  const auto list = [](const dnnl_dim_t* from, int n) { return memory::dims(from, from + n); };
  const dnnl_blocking_desc_t& b = d.format_desc.blocking;
  return Blocking{list(d.padded_dims, d.ndims), list(b.strides, d.ndims),
                  list(b.inner_blks, b.inner_nblks), list(b.inner_idxs, b.inner_nblks)};
#endif
}

}  // namespace

std::optional<PackedLayout> unit_layout(const memory::desc& desc, DType dtype) {
  const std::optional<Blocking> b = blocking_of(desc);
  if (!b || b->padded.size() != 2) return {};
  const int64_t per_unit = dtype == DType::bf16 ? 2 : 1;
  const int64_t units = b->padded[0] / per_unit, columns = b->padded[1];
  if (b->blocks.empty()) {  // k rows of n
    if (per_unit != 1 || b->strides[0] != columns || b->strides[1] != 1) return {};
    return PackedLayout{columns, units, columns};
  }
  // [n / block][k / depth][depth / per_unit][block][per_unit]
  const memory::dims axes = per_unit == 2 ? memory::dims{0, 1, 0} : memory::dims{0, 1};
  if (b->axes != axes || (per_unit == 2 && b->blocks[2] != 2)) return {};
  const int64_t block = b->blocks[1], depth = b->blocks[0] * per_unit;
  if (columns % block != 0 || b->padded[0] % depth != 0) return {};
  if (b->strides[0] != depth * block || b->strides[1] != b->padded[0] * block) return {};
  return PackedLayout{columns, units, block};
}

}  // namespace longtake::cpu
