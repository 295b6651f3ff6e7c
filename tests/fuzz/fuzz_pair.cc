// Any bytes as what comes over a pair: to the rank's handshake, to the worker's, and behind it to
// either end of a link. The first byte chooses; the others come in pieces, as from a socket.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "kernels/base/error.h"
#include "parallel/attention/handshake.h"
#include "parallel/attention/pair_inbox.h"

namespace {

using namespace longtake;

constexpr PairTerms kTerms{.epoch = 1, .slots = 2, .task_bytes = 512, .answer_bytes = 256};
constexpr WorkerToken kToken{};
const std::string kNumerics = "fuzz";

void require(bool condition) {
  if (!condition) std::abort();
}

// Gives a stream in pieces, whose sizes it takes from the stream itself.
template <class Take>
void in_pieces(BytesView bytes, Take&& take) {
  while (!bytes.empty()) {
    const size_t piece = std::min(bytes.size(), 1 + std::to_integer<size_t>(bytes[0]) % 97);
    take(bytes.first(piece));
    bytes = bytes.subspan(piece);
  }
}

// Frames out of bytes; a body beyond the bound would have been let in.
template <class Receive>
void read_frames(BytesView bytes, Receive&& receive) {
  FrameReader reader;
  in_pieces(bytes, [&](BytesView piece) {
    reader.add(piece);
    while (const std::optional<Frame> frame = reader.next()) {
      require(frame->body.size() <= max_body_bytes(frame->type));
      receive(*frame);
    }
    require(reader.wanted_bytes() > 0);
    require(reader.wanted_bytes() <= kFrameHeaderBytes + kMaxFrameBody);
    require(reader.partial_bytes() < kFrameHeaderBytes + kMaxFrameBody);
  });
}

// The nonce of the rank is never the same, so only the token's owner may get in; here the bytes
// cannot hold its proof, because the token is not in them and the challenge is drawn anew.
void to_rank(BytesView bytes) {
  WorkerToken token;
  Nonce nonce;
  fill_random(token);
  fill_random(nonce);
  RankHandshake rank(token, kNumerics, nonce);
  read_frames(bytes, [&](const Frame& frame) {
    rank.receive(frame);
    require(!rank.proved());
  });
}

void to_worker(BytesView bytes) {
  WorkerToken token;
  fill_random(token);
  WorkerHandshake worker(token, {Purpose::control, {}, {}, {kNumerics, "host", 1, 2}});
  read_frames(bytes, [&](const Frame& frame) {
    worker.receive(frame);
    require(worker.stage() < WorkerHandshake::Stage::welcomed);
  });
}

// As to_rank, behind a good proof: `bytes` is what a worker says after the welcome.
void to_rank_proved(BytesView bytes) {
  RankHandshake rank(kToken, kNumerics, {});
  WorkerHandshake worker(kToken, {Purpose::control, {}, {}, {kNumerics, "host", 1, 2}});
  const auto pass = [](const Bytes& from, auto& to) {
    read_frames(from, [&](const Frame& frame) { to.receive(frame); });
  };
  pass(worker.take_output(), rank);
  pass(rank.take_output(), worker);
  pass(worker.take_output(), rank);
  require(rank.proved());
  Nonce in_memory;
  fill_random(in_memory);
  rank.welcome({kTerms, {}, "/proc/1/fd/1"}, in_memory);
  read_frames(bytes, [&](const Frame& frame) {
    rank.receive(frame);
    require(!rank.shared_memory());
  });
}

// What is let through is what an honest peer could have sent, byte for byte.
void check_message(const PairMessage& message, PairEnd at) {
  Bytes again;
  append_message(again, message, kTerms);
  FrameReader reader;
  reader.add(again);
  Bytes twice;
  append_message(twice, decode_message(*reader.next(), kTerms, at), kTerms);
  require(again == twice);
  require(payload_bytes(message) <= (at == PairEnd::worker ? 512u : 256u));
}

// Control and payload bytes by turns; room beyond a slot's bounds would be seen.
void to_link(BytesView bytes, PairEnd at, bool shared) {
  static const SlotMemory slots(kTerms);
  PairInbox inbox(at, kTerms, slots, shared);
  in_pieces(bytes, [&](BytesView piece) {
    const std::span<std::byte> room = inbox.payload_room();
    require(room.size() <= (at == PairEnd::worker ? 512u : 256u));
    if (!room.empty() && piece.size() % 2 == 1) {
      const size_t came = std::min(room.size(), piece.size());
      std::copy_n(piece.begin(), came, room.begin());
      inbox.payload_came(came);
    } else {
      inbox.add_control(piece);
    }
    for (const PairMessage& message : inbox.take()) check_message(message, at);
    (void)inbox.unfinished();
  });
}

void choose(uint8_t which, BytesView bytes) {
  switch (which % 7) {
    case 0:
      return to_rank(bytes);
    case 1:
      return to_worker(bytes);
    case 2:
      return to_rank_proved(bytes);
    case 3:
      return to_link(bytes, PairEnd::rank, false);
    case 4:
      return to_link(bytes, PairEnd::worker, false);
    case 5:
      return to_link(bytes, PairEnd::rank, true);
    default:
      return to_link(bytes, PairEnd::worker, true);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    choose(data[0], std::as_bytes(std::span(data + 1, size - 1)));
  } catch (const Error&) {  // refused
  }
  return 0;
}
