// How a rank and a worker prove to each other that they have the run's token, as frames in and
// bytes out. No sockets.
//
//   worker                          rank
//   opening {purpose, nonce, session, hello} ->
//                       <- challenge {nonce}
//   proof HMAC(token, "worker" + opening + challenge) ->
//                       <- welcome {terms, session, memory, HMAC(token, "rank" + all before)}
//   memory {mapped, HMAC(token, "memory" + session + a nonce that lies in the memory)} ->
//                       <- channel {shared or sockets}
//
// With sockets the worker makes a second connection for payloads: the same up to the welcome, with
// the purpose `payload` and the session of the first. At any time: refusal {text}, then closed.
// Nonces are fresh and the labels differ, so neither a recorded nor a reflected proof is of use.
// Who can change bytes on the wire between the hosts can still do so after it: there is no secrecy.
#pragma once

#include <optional>
#include <utility>

#include "parallel/attention/frame.h"
#include "parallel/attention/pair_listener.h"

namespace longtake {

using Proof = std::array<std::byte, 32>;
using Nonce = std::array<std::byte, 32>;
using SessionId = std::array<std::byte, 16>;

enum class Purpose : uint8_t { control, payload };

struct Opening {
  Purpose purpose = Purpose::control;
  Nonce nonce{};
  SessionId session{};  // of the control connection, when the purpose is payload
  WorkerHello hello;
};

struct Welcome {
  PairTerms terms;
  SessionId session{};
  std::string memory;  // where SharedRegion::open finds it; empty: no shared memory
};

void fill_random(std::span<std::byte> bytes);
// HMAC-SHA256 of the label, a zero and the parts.
Proof prove(const WorkerToken& token, std::string_view label,
            std::initializer_list<BytesView> parts);
bool equal_in_constant_time(BytesView a, BytesView b);

class RankHandshake {
 public:
  enum class Stage { opening, proof, proved, memory, settled };

  RankHandshake(const WorkerToken& token, const std::string& numerics, const Nonce& nonce);

  // Errors: what to refuse the worker with.
  void receive(const Frame& frame);
  // In stage `proved`, then `memory` when a memory was offered, otherwise `settled`.
  void welcome(const Welcome& welcome, const Nonce& in_memory);

  Stage stage() const { return stage_; }
  bool proved() const { return stage_ >= Stage::proved; }
  const Opening& opening() const { return opening_; }
  bool shared_memory() const { return shared_memory_; }  // once settled
  Bytes take_output() { return std::exchange(output_, {}); }

 private:
  void receive_opening(const Frame& frame);
  void receive_proof(const Frame& frame);
  void receive_memory(const Frame& frame);

  WorkerToken token_;
  std::string numerics_;
  Nonce nonce_;
  Stage stage_ = Stage::opening;
  Opening opening_;
  Bytes transcript_;  // bodies of opening and challenge
  SessionId session_{};
  Nonce in_memory_{};
  bool shared_memory_ = false;
  Bytes output_;
};

class WorkerHandshake {
 public:
  enum class Stage { challenge, welcome, welcomed, channel, settled };

  WorkerHandshake(const WorkerToken& token, const Opening& opening);

  // Errors: refused, or the rank's proof is wrong.
  void receive(const Frame& frame);
  // In stage `welcomed`, of a control connection: what was read in the memory, or nothing.
  void answer_memory(const std::optional<Nonce>& in_memory);

  Stage stage() const { return stage_; }
  const Welcome& welcome() const { return welcome_; }
  bool shared_memory() const { return shared_memory_; }  // once settled
  Bytes take_output() { return std::exchange(output_, {}); }

 private:
  void receive_challenge(const Frame& frame);
  void receive_welcome(const Frame& frame);
  void receive_channel(const Frame& frame);

  WorkerToken token_;
  Stage stage_ = Stage::challenge;
  Bytes transcript_;
  Welcome welcome_;
  bool offered_ = false;
  bool shared_memory_ = false;
  Bytes output_;
};

// Text for the other end, as a frame.
void append_refusal(Bytes& out, std::string_view text);

}  // namespace longtake
