// PairMessages as frames. Every field is checked, when a message is sent and when it comes.
#pragma once

#include "parallel/attention/frame.h"
#include "parallel/attention/pair_link.h"

namespace longtake {

enum class PairEnd : uint8_t { rank, worker };

inline constexpr uint16_t kMaxHeadDim = 4096;
inline constexpr uint16_t kMaxSlots = 256;
inline constexpr uint64_t kMaxSlotBytes = uint64_t{1} << 40;

// Errors name the field, what was expected and what was found.
void check_terms(const PairTerms& terms);
void append_message(Bytes& out, const PairMessage& message, const PairTerms& terms);
// `at`: the end that received it. A rank is sent no tasks, a worker no answers.
PairMessage decode_message(const Frame& frame, const PairTerms& terms, PairEnd at);

// A rank sends no answers, a worker no tasks.
void check_direction(const PairMessage& message, PairEnd sender);

// The payload that goes with it; 0 for none.
uint64_t payload_bytes(const PairMessage& message);

}  // namespace longtake
