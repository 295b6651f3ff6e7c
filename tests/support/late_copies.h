// Copies beside the CPU's work that are done as late as their contract allows.
#pragma once

#include <cstring>
#include <deque>
#include <map>

#include "kernels/side_copies.h"

namespace longtake::testing {

class LateCopies : public SideCopies {
 public:
  std::shared_ptr<DeviceMemory> host_memory() override { return nullptr; }
  void copy(const void* from, void* to, size_t bytes) override {
    waiting_.push_back({from, to, bytes});
    ++issued_;
  }
  void wait_for_work() override {}  // the CPU's is done when its call returns
  void mark(int index) override { marks_[index] = issued_; }
  void hold_work(int index) override { copy_up_to(marks_.at(index)); }
  void finish() override { copy_up_to(issued_); }

 private:
  struct Copy {
    const void* from;
    void* to;
    size_t bytes;
  };
  void copy_up_to(int64_t count) {
    for (; done_ < count; ++done_, waiting_.pop_front())
      std::memcpy(waiting_.front().to, waiting_.front().from, waiting_.front().bytes);
  }
  std::deque<Copy> waiting_;
  std::map<int, int64_t> marks_;
  int64_t issued_ = 0, done_ = 0;
};

}  // namespace longtake::testing
