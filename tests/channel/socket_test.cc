// The channels' contract over the socket pair that other tests use as their control plane.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "tests/channel/contract.h"
#include "tests/support/socket_transport.h"

namespace longtake::testing {

namespace {

void on_both_ends(const std::function<void(const std::shared_ptr<SocketEnd>& end)>& work) {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  std::thread other([&] { work(make_socket_end(sockets[1], 1)); });
  work(make_socket_end(sockets[0], 0));
  other.join();
  for (const int socket : sockets) close(socket);
}

}  // namespace

TEST_CASE("socket: messages arrive whole and in order, by transport") {
  int wrong[2] = {-1, -1};
  std::string size;
  on_both_ends([&](const std::shared_ptr<SocketEnd>& end) {
    const Deadline patient{std::chrono::seconds(20)};
    int& mine = wrong[make_socket_transport(end, patient)->rank()];
    mine = 0;
    for (int turn = 0; turn < 3; ++turn) {
      const auto transport = make_socket_transport(end, patient);
      mine += wrong_messages_in_ring(*transport);
      // What is left unread is not seen by the next transport.
      transport->open_send(1 - transport->rank(), 3, 1, 1)->send(1);
    }
    const auto transport = make_socket_transport(end, patient);
    mine += one_message_arrives(*transport, 3'000'000) ? 0 : 1;
    const std::string error = wrong_size_error(*transport);
    if (transport->rank() == 1) size = error;
  });
  CHECK(wrong[0] == 0);
  CHECK(wrong[1] == 0);
  CHECK(size.find("recv of a test: expected 6 bytes from rank 0, found 5") != std::string::npos);
}

TEST_CASE("socket: a missed deadline says what was waited for") {
  std::string late;
  on_both_ends([&](const std::shared_ptr<SocketEnd>& end) {
    const auto transport = make_socket_transport(end, {std::chrono::milliseconds(300)});
    const std::string error = missed_deadline_error(*transport, 0.4);
    if (transport->rank() == 0) late = error;
  });
  CHECK(late.find("rank 0/2: recv of a test: nothing from rank 1 in 0.3 s; in flight: rank 0: work "
                  "of rank 0") != std::string::npos);
}

}  // namespace longtake::testing
