#include "parallel/attention/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr int kBacklog = 128;

bool must_wait(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

Transfer failed() {
  Transfer out;
  if (!must_wait(errno)) out.error = std::strerror(errno);
  return out;
}

void set_option(int descriptor, int level, int option, int value) {
  if (::setsockopt(descriptor, level, option, &value, sizeof value) != 0)
    fail(ExitCode::io, "setsockopt {} of a socket: {}", option, std::strerror(errno));
}

// A host that vanished without a word is found after 10 s + 3 x 5 s of silence.
void set_pair_options(int descriptor) {
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

std::string address_text(const sockaddr_storage& address, socklen_t length) {
  std::array<char, NI_MAXHOST> text{};
  const int rc = ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, text.data(),
                               text.size(), nullptr, 0, NI_NUMERICHOST);
  return rc == 0 ? text.data() : "an unknown address";
}

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

Addresses look_up(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int rc = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (rc != 0)
    fail(ExitCode::io, "host {}: {}", host,
         rc == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(rc));
  return {found, ::freeaddrinfo};
}

// The socket, or why not.
Socket try_address(const addrinfo& address, SteadyTime deadline, std::string& why) {
  const int type = address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC;
  Socket socket(::socket(address.ai_family, type, address.ai_protocol));
  int error = errno;
  socklen_t length = sizeof error;
  if (socket) {
    set_pair_options(socket.descriptor());
    if (::connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) == 0) return socket;
    error = errno;
  }
  if (socket && error == EINPROGRESS) {
    if (!wait_for(socket, POLLOUT, deadline))
      error = ETIMEDOUT;
    else if (::getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &length) != 0)
      error = errno;
    else if (error == 0)
      return socket;
  }
  why = std::strerror(error);
  return {};
}

constexpr int kListener = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

sockaddr_in any_port(in_addr_t host) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(host);
  return out;
}

// Address: sockaddr_in or sockaddr_in6.
template <class Address>
Socket listen_on(Socket socket, Address address, uint16_t& port) {
  auto* at = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  if (!socket || ::bind(socket.descriptor(), at, length) != 0 ||
      ::listen(socket.descriptor(), kBacklog) != 0 ||
      ::getsockname(socket.descriptor(), at, &length) != 0)
    fail(ExitCode::io, "cannot listen for attention workers: {}", std::strerror(errno));
  if constexpr (std::is_same_v<Address, sockaddr_in6>)
    port = ntohs(address.sin6_port);
  else
    port = ntohs(address.sin_port);
  return socket;
}

}  // namespace

void Socket::Close::operator()(const int* descriptor) const {
  (void)::close(*descriptor);
  delete descriptor;
}

Transfer Socket::send(BytesView bytes) const {
  const ssize_t n = ::send(descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) return failed();
  return {static_cast<size_t>(n), false, {}};
}

Transfer Socket::receive(std::span<std::byte> room, bool peek) const {
  const int flags = MSG_DONTWAIT | (peek ? MSG_PEEK : 0);
  const ssize_t n = ::recv(descriptor(), room.data(), room.size(), flags);
  if (n < 0) return failed();
  return {static_cast<size_t>(n), n == 0 && !room.empty(), {}};
}

void Socket::shut_down_sending() const {
  (void)::shutdown(descriptor(), SHUT_WR);  // fails when the peer is gone, which is as good
}

bool Socket::peer_has_own_address() const {
  sockaddr_storage own{}, peer{};
  socklen_t own_length = sizeof own, peer_length = sizeof peer;
  if (::getsockname(descriptor(), reinterpret_cast<sockaddr*>(&own), &own_length) != 0 ||
      ::getpeername(descriptor(), reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0)
    return false;
  return address_text(own, own_length) == address_text(peer, peer_length);
}

std::string Socket::peer_address() const {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (::getpeername(descriptor(), reinterpret_cast<sockaddr*>(&peer), &length) != 0)
    return "an unknown address";
  return address_text(peer, length);
}

Socket listen_on_host(uint16_t& port) {
  return listen_on(Socket(::socket(AF_INET, kListener, 0)), any_port(INADDR_LOOPBACK), port);
}

Socket listen_anywhere(uint16_t& port) {
  Socket socket(::socket(AF_INET6, kListener, 0));
  if (!socket)  // a kernel without IPv6
    return listen_on(Socket(::socket(AF_INET, kListener, 0)), any_port(INADDR_ANY), port);
  set_option(socket.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  sockaddr_in6 address{};  // zeros: all interfaces
  address.sin6_family = AF_INET6;
  return listen_on(std::move(socket), address, port);
}

std::optional<Socket> accept_one(const Socket& listener, std::string& error) {
  Socket socket(::accept4(listener.descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket) {
    set_pair_options(socket.descriptor());
    return socket;
  }
  // The others are errors of that one connection, which is gone (accept(2)).
  const bool full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
  if (full) error = std::strerror(errno);
  return std::nullopt;
}

bool wait_for(const Socket& socket, short events, SteadyTime deadline) {
  using namespace std::chrono;
  while (true) {
    const auto left = ceil<milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{socket.descriptor(), events, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::min<int64_t>(left.count(), 60000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) fail(ExitCode::io, "poll: {}", std::strerror(errno));
  }
}

void wait_for_any(std::vector<pollfd>& waits, std::chrono::microseconds longest) {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(longest);
  const timespec time{whole.count(), std::chrono::nanoseconds(longest - whole).count()};
  (void)::ppoll(waits.data(), waits.size(), &time, nullptr);
}

Socket connect_to(const std::string& host, uint16_t port, SteadyTime deadline) {
  const Addresses addresses = look_up(host, port);
  std::string why = "no address";
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    Socket socket = try_address(*address, deadline, why);
    if (socket) return socket;
  }
  fail(ExitCode::io, "nobody at {} port {}: {}", host, port, why);
}

}  // namespace longtake
