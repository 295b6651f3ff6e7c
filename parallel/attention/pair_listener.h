// How pipeline ranks and attention workers find and trust each other: an address file (mode 0600)
// with a secret token, TCP, and a proof of the token both ways before anything else is read.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/attention/pair_link.h"

namespace longtake {

using WorkerToken = std::array<std::byte, 32>;
WorkerToken random_token();

struct PairAddress {
  int rank = 0;
  std::string host;
  uint16_t port = 0;
};

// RUN/workers.addr: one line for the token and one per rank. Written whole or not at all.
struct AddressFile {
  WorkerToken token{};
  std::vector<PairAddress> ranks;
};
void write_address_file(const std::filesystem::path& path, const AddressFile& addresses);
// Errors name the line; a file that others may read is refused.
AddressFile read_address_file(const std::filesystem::path& path);

// What a worker says of itself; the rank refuses it unless `numerics` is its own.
struct WorkerHello {
  std::string numerics;  // version, device, instruction set: equal text, equal bits
  std::string host;
  int64_t process = 0;
  uint64_t instance = 0;  // drawn by the worker when it starts: tells a second one from a reconnect
  uint64_t gpu = 0;       // its number (nccl_pair.h), when payloads may go from GPU to GPU
};

// Who can knock: only processes of this host, at 127.0.0.1, or whoever reaches one of its
// addresses.
enum class DoorReach { host, anywhere };

// A rank's door. Used by one thread; never waits.
class PairListener {
 public:
  // Listens at a free port. `terms.epoch` is that of the first session.
  // Payloads of workers on this host go through shared memory where that can be had and is allowed;
  // those of workers on another GPU than `nccl_gpu`, when it is given, go there through NCCL.
  PairListener(const WorkerToken& token, const std::string& numerics, const PairTerms& terms,
               bool allow_shared_memory = true, DoorReach reach = DoorReach::host,
               std::optional<int> nccl_gpu = {});
  ~PairListener();
  PairListener(const PairListener&) = delete;
  PairListener& operator=(const PairListener&) = delete;

  uint16_t port() const;
  struct Joined {
    WorkerHello hello;
    std::unique_ptr<PairLink> link;
  };
  // The workers that have proved the token and agreed to the terms since the last call.
  std::vector<Joined> pump();
  void add_waits(std::vector<pollfd>& out) const;
  // When pump() has something to do even if nothing is readable: a proof that is overdue. At most
  // an hour.
  std::chrono::milliseconds next_deadline() const;
  int64_t refused() const;  // connections that came to nothing so far
  void close();             // no new ones; links that were made stay

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The worker's end, which computes on GPU `gpu` if on any. Waits for at most `deadline`; errors:
// nobody there, token refused, other numerics, with what was expected and found.
std::unique_ptr<PairLink> connect_pair(const PairAddress& address, const WorkerToken& token,
                                       const WorkerHello& hello, std::chrono::milliseconds deadline,
                                       int gpu = 0);

}  // namespace longtake
