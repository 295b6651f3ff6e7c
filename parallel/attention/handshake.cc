#include "parallel/attention/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/base/error.h"
#include "parallel/attention/wire.h"

namespace longtake {

namespace {

constexpr size_t kMaxNumerics = 400, kMaxHost = 255, kMaxMemoryPath = 64;

Bytes encode(const Opening& opening) {
  BodyWriter body;
  body.put(static_cast<uint8_t>(opening.purpose));
  body.put(BytesView(opening.nonce));
  body.put(BytesView(opening.session));
  body.put_text(opening.hello.numerics);
  body.put_text(opening.hello.host);
  body.put(static_cast<uint64_t>(opening.hello.process));
  body.put(opening.hello.instance);
  body.put(opening.hello.gpu);
  return body.bytes();
}

Opening decode_opening(const Frame& frame) {
  BodyReader body(frame);
  Opening out;
  const int purpose = body.get<uint8_t>();
  if (purpose > static_cast<int>(Purpose::payload))
    fail(ExitCode::bad_data, "opening: purpose: expected 0 or 1, found {}", purpose);
  out.purpose = static_cast<Purpose>(purpose);
  out.nonce = body.get_bytes<32>();
  out.session = body.get_bytes<16>();
  out.hello.numerics = body.get_text("numerics", kMaxNumerics);
  out.hello.host = body.get_text("host", kMaxHost);
  out.hello.process = static_cast<int64_t>(body.get<uint64_t>());
  out.hello.instance = body.get<uint64_t>();
  out.hello.gpu = body.get<uint64_t>();
  body.finish();
  return out;
}

// Without the proof behind it.
Bytes encode(const Welcome& welcome) {
  BodyWriter body;
  body.put(welcome.terms.epoch);
  body.put(welcome.terms.slots);
  body.put(welcome.terms.task_bytes);
  body.put(welcome.terms.answer_bytes);
  body.put(BytesView(welcome.session));
  body.put_text(welcome.memory);
  return body.bytes();
}

void expect(const Frame& frame, FrameType type) {
  if (frame.type != type)
    fail(ExitCode::bad_data, "expected a frame `{}`, found `{}`", name(type), name(frame.type));
}

Proof prove_memory(const WorkerToken& token, const SessionId& session, const Nonce& in_memory) {
  return prove(token, "longtake memory", {session, in_memory});
}

}  // namespace

void fill_random(std::span<std::byte> bytes) {
  if (::getentropy(bytes.data(), bytes.size()) != 0)
    fail(ExitCode::error, "no random numbers from the system: {}", std::strerror(errno));
}

WorkerToken random_token() {
  WorkerToken token;
  fill_random(token);
  return token;
}

Proof prove(const WorkerToken& token, std::string_view label,
            std::initializer_list<BytesView> parts) {
  Bytes text;
  append(text, std::as_bytes(std::span(label)));
  append(text, std::array{std::byte{0}});
  for (const BytesView part : parts) append(text, part);
  Proof out;
  unsigned int bytes = 0;
  const auto* written = ::HMAC(EVP_sha256(), token.data(), static_cast<int>(token.size()),
                               reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                               reinterpret_cast<unsigned char*>(out.data()), &bytes);
  LT_CHECK(written && bytes == out.size(), "OpenSSL offers no HMAC-SHA256");
  return out;
}

bool equal_in_constant_time(BytesView a, BytesView b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void append_refusal(Bytes& out, std::string_view text) {
  append_frame(out, FrameType::refusal, std::as_bytes(std::span(text.substr(0, kMaxFrameBody))));
}

RankHandshake::RankHandshake(const WorkerToken& token, const std::string& numerics,
                             const Nonce& nonce)
    : token_(token), numerics_(numerics), nonce_(nonce) {}

void RankHandshake::receive(const Frame& frame) {
  switch (stage_) {
    case Stage::opening:
      return receive_opening(frame);
    case Stage::proof:
      return receive_proof(frame);
    case Stage::memory:
      return receive_memory(frame);
    default:
      fail(ExitCode::bad_data, "expected no frame before the welcome, found `{}`",
           name(frame.type));
  }
}

void RankHandshake::receive_opening(const Frame& frame) {
  expect(frame, FrameType::opening);
  opening_ = decode_opening(frame);
  append(transcript_, frame.body);
  append(transcript_, nonce_);
  append_frame(output_, FrameType::challenge, nonce_);
  stage_ = Stage::proof;
}

void RankHandshake::receive_proof(const Frame& frame) {
  expect(frame, FrameType::proof);
  const Proof expected = prove(token_, "longtake worker", {transcript_});
  if (!equal_in_constant_time(expected, frame.body))
    fail(ExitCode::bad_data, "wrong token: it is that of another run");
  if (opening_.hello.numerics != numerics_)
    fail(ExitCode::bad_data, "other numerics: expected `{}`, found `{}`", numerics_,
         opening_.hello.numerics);
  stage_ = Stage::proved;
}

void RankHandshake::welcome(const Welcome& welcome, const Nonce& in_memory) {
  LT_CHECK(stage_ == Stage::proved, "a welcome before the proof");
  const Bytes text = encode(welcome);
  const Proof proof = prove(token_, "longtake rank", {transcript_, text});
  Bytes body = text;
  append(body, proof);
  append_frame(output_, FrameType::welcome, body);
  session_ = welcome.session;
  in_memory_ = in_memory;
  const bool asks_memory = opening_.purpose == Purpose::control;
  stage_ = asks_memory ? Stage::memory : Stage::settled;
}

void RankHandshake::receive_memory(const Frame& frame) {
  expect(frame, FrameType::memory);
  BodyReader body(frame);
  const int mapped = body.get<uint8_t>();
  const Proof proof = body.get_bytes<32>();
  body.finish();
  if (mapped > 1) fail(ExitCode::bad_data, "memory: expected 0 or 1, found {}", mapped);
  shared_memory_ =
      mapped == 1 && equal_in_constant_time(prove_memory(token_, session_, in_memory_), proof);
  BodyWriter answer;
  answer.put(static_cast<uint8_t>(shared_memory_));
  append_frame(output_, FrameType::channel, answer.bytes());
  stage_ = Stage::settled;
}

WorkerHandshake::WorkerHandshake(const WorkerToken& token, const Opening& opening)
    : token_(token), transcript_(encode(opening)) {
  const Frame frame{FrameType::opening, transcript_};
  (void)decode_opening(frame);  // what the rank would refuse is found here
  append_frame(output_, FrameType::opening, transcript_);
}

void WorkerHandshake::receive(const Frame& frame) {
  if (frame.type == FrameType::refusal) {
    std::string text;
    for (const std::byte byte : frame.body) {
      const char c = static_cast<char>(byte);
      text += c >= 0x20 && c <= 0x7e ? c : '?';
    }
    fail(ExitCode::bad_data, "refused: {}", text);
  }
  switch (stage_) {
    case Stage::challenge:
      return receive_challenge(frame);
    case Stage::welcome:
      return receive_welcome(frame);
    case Stage::channel:
      return receive_channel(frame);
    default:
      fail(ExitCode::bad_data, "expected no frame now, found `{}`", name(frame.type));
  }
}

void WorkerHandshake::receive_challenge(const Frame& frame) {
  expect(frame, FrameType::challenge);
  BodyReader body(frame);
  const Nonce nonce = body.get_bytes<32>();
  body.finish();
  append(transcript_, nonce);
  append_frame(output_, FrameType::proof, prove(token_, "longtake worker", {transcript_}));
  stage_ = Stage::welcome;
}

void WorkerHandshake::receive_welcome(const Frame& frame) {
  expect(frame, FrameType::welcome);
  BodyReader body(frame);
  Welcome welcome;
  welcome.terms.epoch = body.get<uint32_t>();
  welcome.terms.slots = body.get<uint16_t>();
  welcome.terms.task_bytes = body.get<uint64_t>();
  welcome.terms.answer_bytes = body.get<uint64_t>();
  welcome.session = body.get_bytes<16>();
  welcome.memory = body.get_text("memory", kMaxMemoryPath);
  const Proof proof = body.get_bytes<32>();
  body.finish();
  const Proof expected = prove(token_, "longtake rank", {transcript_, encode(welcome)});
  if (!equal_in_constant_time(expected, proof))
    fail(ExitCode::bad_data, "it did not prove the token: it is not of this run");
  check_terms(welcome.terms);
  welcome_ = welcome;
  stage_ = Stage::welcomed;
}

void WorkerHandshake::answer_memory(const std::optional<Nonce>& in_memory) {
  LT_CHECK(stage_ == Stage::welcomed, "an answer before the welcome");
  BodyWriter body;
  body.put(static_cast<uint8_t>(in_memory.has_value()));
  const Proof proof = in_memory ? prove_memory(token_, welcome_.session, *in_memory) : Proof{};
  body.put(BytesView(proof));
  append_frame(output_, FrameType::memory, body.bytes());
  offered_ = in_memory.has_value();
  stage_ = Stage::channel;
}

void WorkerHandshake::receive_channel(const Frame& frame) {
  expect(frame, FrameType::channel);
  BodyReader body(frame);
  const int shared = body.get<uint8_t>();
  body.finish();
  if (shared > static_cast<int>(offered_))
    fail(ExitCode::bad_data, "channel: expected at most {}, found {}", static_cast<int>(offered_),
         shared);
  shared_memory_ = shared == 1;
  stage_ = Stage::settled;
}

}  // namespace longtake
