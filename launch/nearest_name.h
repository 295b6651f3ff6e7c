// The known name that somebody probably meant.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `names`; the first one among equals.
std::string nearest_name(std::string_view name, const std::vector<std::string>& names);

}  // namespace longtake
