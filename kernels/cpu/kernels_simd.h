// Declarations of one instruction set's kernels.
#pragma once

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/peak.h"

namespace longtake::cpu::LT_ISA_NS {

void modulate(const ModulateRows& r);
void rms(const RmsRows& r);
void channel_norm(const ChannelNormRows& r);
void epilogue(const EpilogueRows& r);
void silu_rows(const float* x, float* y, int64_t n);
void gated_gelu(const void* a, const void* b, void* y, RowType type, int64_t n);
void add_rows(const float* x, float* y, int64_t n);
void linear_combination(const float* const* x, const float* weight, int count, float* y, int64_t n);
void to_bf16(const float* x, uint16_t* y, int64_t n);
void to_f32(const uint16_t* x, float* y, int64_t n);
void weighted_row(const WeightedRow& r);
void pack_rows(const PackRows& p);

extern const AttentionKernel kAttention;
constexpr const AttentionKernel* attention_kernel() {
  return &kAttention;
}

extern const PeakKernel kPeak;

}  // namespace longtake::cpu::LT_ISA_NS
