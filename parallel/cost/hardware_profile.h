// What a rank's device and its links reach in practice, not on paper.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longtake {

// Devices that can serve attention.
struct WorkerKind {
  std::string name;
  int64_t count = 0;          // devices of this kind among all; they cannot be stages
  double speed = 1;           // of attention, in that of a rank
  double link_bandwidth = 0;  // bytes/s, both ways together
  double link_latency_s = 0;
  bool overlap = true;  // moves one task while it computes another
};

struct HardwareProfile {
  double linear_flops = 0;      // FLOP/s of matrix products
  double attention_flops = 0;   // FLOP/s of softmax(QK^T)V
  double conv_flops = 0;        // FLOP/s of the VAE
  double memory_bandwidth = 0;  // bytes/s
  double memory_bytes = 0;
  double link_bandwidth = 0;  // bytes/s, one direction
  double link_latency_s = 0;
  double operator_s = 0;  // launch of one operator
  // Speed of background work when no rank has anything else to do, in that of one rank: a machine
  // whose ranks share its cores decodes the end of a video with all of them.
  double spare_speed = 1;
  // Beside devices like a rank's own, which may be stages or workers.
  std::vector<WorkerKind> workers;
  bool overlap = true;  // of a worker on a device like a rank's own
};

}  // namespace longtake
