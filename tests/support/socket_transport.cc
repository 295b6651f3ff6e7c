#include "tests/support/socket_transport.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <thread>
#include <vector>

#include "kernels/base/error.h"

namespace longtake::testing {

namespace {

using Clock = std::chrono::steady_clock;

struct Header {
  int32_t transport, tag;  // number of the sender's transport on this socket
  uint64_t bytes;
};

}  // namespace

class SocketEnd {
 public:
  SocketEnd(int socket, int rank) : socket_(socket), rank_(rank) {}

  int rank() const { return rank_; }
  int peer() const { return 1 - rank_; }
  // What earlier transports left behind stays unread.
  void begin(Deadline deadline) {
    ++transport_;
    deadline_ = deadline;
    doing_ = {};
    wait_s = 0;
  }
  void answer_with(std::function<std::string()> doing) { doing_ = std::move(doing); }
  std::string in_flight() const {
    return fmt::format("rank {}: {}", rank_, doing_ ? doing_() : std::string("nothing yet"));
  }

  void write(int tag, const std::vector<char>& message, size_t bytes) {
    const Header header{transport_, tag, bytes};
    std::vector<char> frame(sizeof header + bytes);
    std::memcpy(frame.data(), &header, sizeof header);
    std::memcpy(frame.data() + sizeof header, message.data(), bytes);
    const Clock::time_point end = Clock::now() + deadline_.limit;
    for (size_t done = 0; done < frame.size();) {
      const ssize_t n =
          ::send(socket_, frame.data() + done, frame.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) {
        done += static_cast<size_t>(n);
        continue;
      }
      if (errno != EAGAIN && errno != EINTR)
        fail(ExitCode::error, "rank {}: a message to rank {}: {}", rank_, peer(),
             std::strerror(errno));
      take();  // the other end may be waiting for room too
      check_time(end, "room in the socket");
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  // Takes what has come, without waiting.
  void take() {
    char piece[4096];
    while (true) {
      const ssize_t n = ::recv(socket_, piece, sizeof piece, MSG_DONTWAIT);
      if (n <= 0) break;  // nothing now, or the other end is gone: the deadline tells
      came_.insert(came_.end(), piece, piece + n);
    }
    Header header;
    while (came_.size() >= sizeof header) {
      std::memcpy(&header, came_.data(), sizeof header);
      if (came_.size() < sizeof header + header.bytes) break;
      const auto begin = came_.begin() + sizeof header;
      const auto end = begin + static_cast<ptrdiff_t>(header.bytes);
      messages_[{header.transport, header.tag}].emplace_back(begin, end);
      came_.erase(came_.begin(), end);
    }
  }

  bool has(int tag) {
    take();
    return !messages_[{transport_, tag}].empty();
  }

  std::vector<char> read(int tag, const std::string& what) {
    const Clock::time_point start = Clock::now(), end = start + deadline_.limit;
    while (!has(tag)) {
      check_time(end, what);
      pollfd wait{socket_, POLLIN, 0};
      (void)::poll(&wait, 1, 1);
    }
    wait_s += std::chrono::duration<double>(Clock::now() - start).count();
    auto& queue = messages_[{transport_, tag}];
    std::vector<char> out = std::move(queue.front());
    queue.pop_front();
    return out;
  }

  double wait_s = 0;

 private:
  void check_time(Clock::time_point end, const std::string& what) const {
    if (Clock::now() < end) return;
    fail(ExitCode::watchdog, "rank {}/2: {}: nothing from rank {} in {:.1f} s; in flight: {}",
         rank_, what, peer(), std::chrono::duration<double>(deadline_.limit).count(), in_flight());
  }

  int socket_, rank_;
  int32_t transport_ = 0;
  Deadline deadline_;
  std::function<std::string()> doing_;
  std::vector<char> came_;
  std::map<std::pair<int32_t, int32_t>, std::deque<std::vector<char> > > messages_;
};

namespace {

class SocketSend : public SendChannel {
 public:
  SocketSend(SocketEnd& socket, int tag, size_t bytes)
      : socket_(socket), tag_(tag), buffer_(bytes) {}
  void* acquire(const std::string&) override { return buffer_.data(); }
  void send(size_t bytes) override {
    LT_CHECK(bytes <= buffer_.size(), "a message of {} bytes in a channel for {}", bytes,
             buffer_.size());
    socket_.write(tag_, buffer_, bytes);
  }
  void flush(const std::string&) override {}  // it is in the socket

 private:
  SocketEnd& socket_;
  int tag_;
  std::vector<char> buffer_;
};

class SocketReceive : public ReceiveChannel {
 public:
  SocketReceive(SocketEnd& socket, int tag) : socket_(socket), tag_(tag) {}
  const void* receive(size_t bytes, const std::string& what) override {
    message_ = socket_.read(tag_, what);
    if (message_.size() != bytes)
      fail(ExitCode::bad_data, "rank {}: {}: expected {} bytes from rank {}, found {}",
           socket_.rank(), what, bytes, socket_.peer(), message_.size());
    return message_.data();
  }
  void release() override {}
  bool arrived() override { return socket_.has(tag_); }

 private:
  SocketEnd& socket_;
  int tag_;
  std::vector<char> message_;
};

class SocketTransport : public Transport {
 public:
  SocketTransport(std::shared_ptr<SocketEnd> end, Deadline deadline) : end_(std::move(end)) {
    end_->begin(deadline);
  }
  int rank() const override { return end_->rank(); }
  int ranks() const override { return 2; }
  std::unique_ptr<SendChannel> open_send(int, int tag, size_t bytes, int) override {
    return std::make_unique<SocketSend>(*end_, tag, bytes);
  }
  std::unique_ptr<ReceiveChannel> open_receive(int, int tag, size_t, int) override {
    return std::make_unique<SocketReceive>(*end_, tag);
  }
  void answer_with(std::function<std::string()> doing) override {
    end_->answer_with(std::move(doing));
  }
  std::string in_flight() override { return end_->in_flight(); }
  void progress() override { end_->take(); }
  double wait_seconds() const override { return end_->wait_s; }

 private:
  std::shared_ptr<SocketEnd> end_;
};

}  // namespace

std::shared_ptr<SocketEnd> make_socket_end(int socket, int rank) {
  return std::make_shared<SocketEnd>(socket, rank);
}

std::unique_ptr<Transport> make_socket_transport(std::shared_ptr<SocketEnd> end,
                                                 Deadline deadline) {
  return std::make_unique<SocketTransport>(std::move(end), deadline);
}

}  // namespace longtake::testing
