// What one core can do at most: products from registers only, so that benches can say which share
// of it they reach.
#pragma once

#include <stdint.h>

namespace longtake::cpu {

// Loops of one instruction set; each does `rounds` rounds and returns a number that depends on all.
struct PeakKernel {
  double fma_flops;  // floating-point operations of a round
  float (*fma)(int64_t rounds, float x);
  double bf16_flops;
  float (*bf16)(int64_t rounds, float x);  // null without dot products in bf16
};

struct Peak {
  double fma = 0;   // f32, FLOP/s
  double bf16 = 0;  // bf16 dot products with f32 sums, FLOP/s; 0 where there are none
};

// Of the calling thread's core under the active instruction set: the best of `repeat` loops of
// about 2 ms each.
Peak measure_peak(int repeat = 5);

}  // namespace longtake::cpu
