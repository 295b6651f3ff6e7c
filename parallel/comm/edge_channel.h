// The two ends of an edge between GPUs as channels. A transport owns its ends, since all of them
// are closed together; what it hands out only points to them.
#pragma once

#include "parallel/comm/channel.h"

namespace longtake {

template <class End>
class SendOf : public SendChannel {
 public:
  explicit SendOf(End& end) : end_(end) {}
  void* acquire(const std::string& what) override { return end_.acquire(what); }
  void send(size_t bytes) override { end_.send(bytes); }
  void flush(const std::string& what) override { end_.flush(what); }
  Device device() const override { return end_.device(); }

 private:
  End& end_;
};

template <class End>
class ReceiveOf : public ReceiveChannel {
 public:
  explicit ReceiveOf(End& end) : end_(end) {}
  const void* receive(size_t bytes, const std::string& what) override {
    return end_.receive(bytes, what);
  }
  void release() override { end_.release(); }
  bool arrived() override { return end_.arrived(); }
  Device device() const override { return end_.device(); }

 private:
  End& end_;
};

}  // namespace longtake
