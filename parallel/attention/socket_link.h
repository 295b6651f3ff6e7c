// A pair over sockets, with shared or with own slots.
#pragma once

#include "parallel/attention/pair_inbox.h"
#include "parallel/attention/socket.h"

namespace longtake {

// What the handshake leaves behind.
struct LinkStart {
  PairEnd end = PairEnd::rank;
  PairTerms terms;
  std::string peer;
  Socket control, payload;  // payload: only when the slots are not shared
  SlotMemory slots;
  Bytes unsent;  // the handshake's last bytes on the control connection
};

std::unique_ptr<PairLink> make_socket_link(LinkStart&& start);

}  // namespace longtake
