// TCP sockets that never wait and never raise SIGPIPE.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/attention/frame.h"

namespace longtake {

// What one attempt to send or to receive did. 0 bytes and nothing else: it would have to wait.
struct Transfer {
  size_t bytes = 0;
  bool closed = false;  // by the peer, in order
  std::string error;    // text of errno
  bool would_wait() const { return bytes == 0 && !closed && error.empty(); }
};

class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor < 0 ? nullptr : new int(descriptor)) {}

  explicit operator bool() const { return descriptor_ != nullptr; }
  int descriptor() const { return descriptor_ ? *descriptor_ : -1; }

  Transfer send(BytesView bytes) const;
  Transfer receive(std::span<std::byte> room, bool peek = false) const;
  void shut_down_sending() const;
  // Both ends have the same address: one host, or a tunnel that looks like it.
  bool peer_has_own_address() const;
  std::string peer_address() const;  // "192.0.2.7", for messages

 private:
  struct Close {
    void operator()(const int* descriptor) const;
  };
  std::unique_ptr<int, Close> descriptor_;
};

// At a free port of 127.0.0.1, or of all interfaces, IPv6 and IPv4. Fail with ExitCode::io.
Socket listen_on_host(uint16_t& port);
Socket listen_anywhere(uint16_t& port);
// Nothing when nobody is waiting; `error` when the system refuses (too many open files).
std::optional<Socket> accept_one(const Socket& listener, std::string& error);

using SteadyTime = std::chrono::steady_clock::time_point;
// Tries all addresses that the name has. Looking up a name may take the resolver's own time-out.
// Errors name host, port and the last reason.
Socket connect_to(const std::string& host, uint16_t port, SteadyTime deadline);
// Until `events` or the deadline; false: the deadline.
bool wait_for(const Socket& socket, short events, SteadyTime deadline);
// Sleeps until one of them is ready or the time is over; errors show where they are read.
void wait_for_any(std::vector<pollfd>& waits, std::chrono::microseconds longest);

}  // namespace longtake
