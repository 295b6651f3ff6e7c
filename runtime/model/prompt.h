// Prompt cleaning as the reference pipeline does it (wan.md 4.5.1): ftfy's repairs except that of
// mis-decoded text, HTML unescaped twice, white space collapsed.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// Fails with ExitCode::usage when the prompt is not UTF-8.
std::string clean_prompt(std::string_view prompt);

}  // namespace longtake
