#include "tests/channel/contract.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/base/error.h"

namespace longtake::testing {

namespace {

constexpr size_t kMost = 5000;
constexpr int kMessages = 200, kDepth = 2;

// Different for every sender, message and position.
uint8_t byte_of(int from, int message, size_t i) {
  return static_cast<uint8_t>(static_cast<size_t>(from) * 31 + static_cast<size_t>(message) * 7 +
                              i * 13 + (i >> 8));
}

size_t size_of(int message) {
  return static_cast<size_t>(message) * 37 % (kMost + 1);
}

}  // namespace

void copy_on_host(const void* from, Device, void* to, Device, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

int wrong_messages_in_ring(Transport& transport, const ChannelCopy& copy) {
  const int ranks = transport.ranks(), here = transport.rank();
  const int next = (here + 1) % ranks, before = (here + ranks - 1) % ranks;
  const auto out = transport.open_send(next, 3, kMost, kDepth);
  const auto in = transport.open_receive(before, 3, kMost, kDepth);
  transport.ready();
  std::vector<uint8_t> host(kMost);
  int wrong = 0;
  for (int m = 0; m < kMessages; ++m) {
    for (size_t i = 0; i < size_of(m); ++i) host[i] = byte_of(here, m, i);
    copy(host.data(), {}, out->acquire("a free buffer"), out->device(), size_of(m));
    out->send(size_of(m));
    transport.progress();
    copy(in->receive(size_of(m), "the next message"), in->device(), host.data(), {}, size_of(m));
    for (size_t i = 0; i < size_of(m); ++i)
      if (host[i] != byte_of(before, m, i)) {
        ++wrong;
        break;
      }
    in->release();
  }
  out->flush("the last messages");
  return wrong;
}

bool one_message_arrives(Transport& transport, size_t bytes, const ChannelCopy& copy) {
  constexpr size_t kPiece = size_t{16} << 20;
  std::vector<uint8_t> host;
  const auto for_pieces = [&](const std::function<void(size_t begin)>& work) {
    for (size_t begin = 0; begin < bytes; begin += kPiece) {
      host.resize(std::min(kPiece, bytes - begin));
      work(begin);
    }
  };
  if (transport.rank() == 0) {
    const auto out = transport.open_send(1, 4, bytes, 1);
    transport.ready();
    auto* to = static_cast<uint8_t*>(out->acquire("a free buffer"));
    for_pieces([&](size_t begin) {
      for (size_t i = 0; i < host.size(); ++i) host[i] = byte_of(0, 1, begin + i);
      copy(host.data(), {}, to + begin, out->device(), host.size());
    });
    out->send(bytes);
    out->flush("a message");
  }
  if (transport.rank() != 1) return true;
  const auto in = transport.open_receive(0, 4, bytes, 1);
  transport.ready();
  const auto* from = static_cast<const uint8_t*>(in->receive(bytes, "a message"));
  size_t wrong = 0;
  for_pieces([&](size_t begin) {
    copy(from + begin, in->device(), host.data(), {}, host.size());
    for (size_t i = 0; i < host.size(); ++i) wrong += host[i] != byte_of(0, 1, begin + i) ? 1 : 0;
  });
  return wrong == 0;
}

std::string wrong_size_error(Transport& transport) {
  if (transport.rank() == 0) {
    const auto out = transport.open_send(1, 5, 16, 1);
    transport.ready();
    out->acquire("a free buffer");
    out->send(5);
    out->flush("a message");
  }
  if (transport.rank() != 1) return "";
  const auto in = transport.open_receive(0, 5, 16, 1);
  transport.ready();
  try {
    in->receive(6, "recv of a test");
  } catch (const Error& e) {
    return e.code() == ExitCode::bad_data ? e.what() : "another code";
  }
  return "no error";
}

std::string missed_deadline_error(Transport& transport, double others_s) {
  transport.answer_with([&] { return "work of rank " + std::to_string(transport.rank()); });
  if (transport.rank() != 0) {
    const auto out = transport.open_send(0, 6, 16, 1);
    transport.ready();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(others_s);
    while (std::chrono::steady_clock::now() < end) {
      transport.progress();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return "";
  }
  const auto in = transport.open_receive(1, 6, 16, 1);
  transport.ready();
  try {
    in->receive(16, "recv of a test");
  } catch (const Error& e) {
    return e.code() == ExitCode::watchdog ? e.what() : "another code";
  }
  return "no error";
}

}  // namespace longtake::testing
