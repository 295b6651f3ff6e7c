#include "launch/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>

namespace longtake {

namespace {

constexpr double kTerminalInterval_s = 0.1;
constexpr double kPlainInterval_s = 10;
std::atomic<bool> line_is_drawn = false;

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

std::string progress_line(const ProgressState& s, double elapsed_s) {
  std::string out = fmt::format("block {}/{}", s.blocks, s.total_blocks);
  if (s.total_steps > 0) out += fmt::format(" | step {}/{}", s.steps, s.total_steps);
  if (s.total_frames > 0) {
    const double rate = elapsed_s > 0 ? static_cast<double>(s.frames) / elapsed_s : 0;
    out += fmt::format(" | {}/{} frames, {:.{}f}/s", s.frames, s.total_frames, rate,
                       rate < 10 ? 1 : 0);
  }
  out += fmt::format(" | {} elapsed", duration_text(elapsed_s));
  if (s.steps > 0 && s.steps < s.total_steps) {
    const auto left = static_cast<double>(s.total_steps - s.steps);
    out += fmt::format(", {} left", duration_text(elapsed_s * left / static_cast<double>(s.steps)));
  }
  return out;
}

Progress::Progress(bool enabled)
    : enabled_(enabled),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_) {}

Progress::~Progress() {
  clear_progress_line();
}

void Progress::update(const ProgressState& state) {
  if (!enabled_) return;
  state_ = state;
  pending_ = true;
  const double since = std::chrono::duration<double>(Clock::now() - drawn_).count();
  if (since >= (terminal_ ? kTerminalInterval_s : kPlainInterval_s)) draw();
}

void Progress::draw() {
  drawn_ = Clock::now();
  pending_ = false;
  const std::string line =
      progress_line(state_, std::chrono::duration<double>(drawn_ - start_).count());
  std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
  line_is_drawn = terminal_;
}

void Progress::finish() {
  if (!enabled_) return;
  if (pending_) draw();
  if (line_is_drawn.exchange(false)) std::fputc('\n', stderr);
}

void clear_progress_line() {
  if (!line_is_drawn.exchange(false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

}  // namespace longtake
