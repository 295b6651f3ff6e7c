// Placeholder of the attention kernel's interface between attention.cc and attention_simd.cc.
#pragma once

namespace longtake::cpu {

struct AttentionKernel {};

}  // namespace longtake::cpu
