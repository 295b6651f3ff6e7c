// A control transport between two processes over one end each of a Unix socket pair: enough of the
// channels' contract for small messages, where there is no MPI launcher.
#pragma once

#include <memory>

#include "parallel/comm/channel.h"

namespace longtake::testing {

// One end, for several transports one after the other; both ends make them in the same order.
class SocketEnd;
std::shared_ptr<SocketEnd> make_socket_end(int socket, int rank);  // rank 0 or 1

std::unique_ptr<Transport> make_socket_transport(std::shared_ptr<SocketEnd> end, Deadline deadline);

}  // namespace longtake::testing
