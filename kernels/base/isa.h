// Which vector instructions the CPU backend uses: the best the processor has, or one that is
// forced.
#pragma once

#include <string_view>
#include <vector>

namespace longtake {

enum class Isa { portable, avx2, avx512, avx512_bf16 };  // ascending

std::string_view name(Isa isa);
Isa best_isa();                        // of this processor, among those compiled in
std::vector<Isa> available_isas();     // ascending
Isa parse_isa(std::string_view text);  // fails with the list of names

// Process-wide. set_isa must come before the first operator; it fails when the processor lacks
// `isa`.
void set_isa(Isa isa);
Isa active_isa();

}  // namespace longtake
