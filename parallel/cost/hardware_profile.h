// What a rank's device and its links reach in practice, not on paper.
#pragma once

namespace longtake {

struct HardwareProfile {
  double linear_flops = 0;      // FLOP/s of matrix products
  double attention_flops = 0;   // FLOP/s of softmax(QK^T)V
  double conv_flops = 0;        // FLOP/s of the VAE
  double memory_bandwidth = 0;  // bytes/s
  double memory_bytes = 0;
  double link_bandwidth = 0;  // bytes/s, one direction
  double link_latency_s = 0;
  double operator_s = 0;  // launch of one operator
};

}  // namespace longtake
