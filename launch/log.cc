#include "launch/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "launch/progress.h"

namespace longtake {

namespace {

struct Log {
  std::shared_ptr<spdlog::logger> sink = std::make_shared<spdlog::logger>(
      "longtake", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  bool json = false;
  Log() {
    sink->set_pattern("%v");
    sink->set_level(spdlog::level::info);
  }
};

Log& state() {
  static Log log;
  return log;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::debug:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return "error";
    case LogLevel::warning:
      return "warning";
    case LogLevel::info:
      return "info";
    case LogLevel::debug:
      return "debug";
  }
  return "info";
}

std::string plain_line(LogLevel level, const std::string& text) {
  switch (level) {
    case LogLevel::error:
      return "longtake: " + text;
    case LogLevel::warning:
      return "longtake: warning: " + text;
    case LogLevel::info:
    case LogLevel::debug:
      return text;
  }
  return text;
}

}  // namespace

void set_up_log(LogLevel level, bool json) {
  state().sink->set_level(spdlog_level(level));
  state().json = json;
}

bool log_enabled(LogLevel level) {
  return state().sink->should_log(spdlog_level(level));
}

void log_text(LogLevel level, const std::string& text) {
  if (!log_enabled(level)) return;
  clear_progress_line();
  state().sink->log(spdlog_level(level),
                    state().json ? json_line(level, text) : plain_line(level, text));
}

void flush_log() {
  state().sink->flush();
}

std::string json_line(LogLevel level, const std::string& text) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const nlohmann::ordered_json json = {
      {"time", now}, {"level", level_name(level)}, {"message", text}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace longtake
