// Messages to people, on standard error: plain lines, or one JSON object per line.
#pragma once

#include <fmt/core.h>

#include <string>

namespace longtake {

enum class LogLevel { error, warning, info, debug };  // ascending in talkativeness

void set_up_log(LogLevel level, bool json);
bool log_enabled(LogLevel level);
void log_text(LogLevel level, const std::string& text);
void flush_log();
// The line itself, without its end: tested, and used for the last words of a failed run.
std::string json_line(LogLevel level, const std::string& text);

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_text(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_text(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_text(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace longtake
