// What oneDNN says of a layout that it chose. Holds the differences between oneDNN 2 and 3.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "kernels/cpu/onednn.h"

namespace longtake::cpu {

// Of packed weights [k, n] of type `dtype`; none where units do not lie as PackedLayout says.
std::optional<PackedLayout> unit_layout(const dnnl::memory::desc& desc, DType dtype);

}  // namespace longtake::cpu
