// One line that says how far a run is: redrawn in place on a terminal, else printed every 10 s.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace longtake {

struct ProgressState {
  int64_t blocks = 0, total_blocks = 0;
  int64_t steps = 0, total_steps = 0;    // visits of blocks: what the time goes into
  int64_t frames = 0, total_frames = 0;  // of the video, decoded
};

// "block 3/13 | step 58/260 | 33/401 frames, 4.1/s | 0:08 elapsed, 1:20 left"
std::string progress_line(const ProgressState& state, double elapsed_s);

class Progress {
 public:
  // Writes to standard error; nothing at all unless `enabled`.
  explicit Progress(bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap: draws only when it is time to. From one thread.
  void update(const ProgressState& state);
  void finish();  // the last state, once

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  bool enabled_, terminal_;
  Clock::time_point start_, drawn_;
  ProgressState state_;
  bool pending_ = false;
};

// Removes the line from the terminal before something else is printed; the next update draws it
// again.
void clear_progress_line();

}  // namespace longtake
