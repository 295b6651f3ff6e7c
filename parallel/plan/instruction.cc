// The text form of a plan: one instruction per line, for people, golden tests and error messages.
// The parser accepts exactly what to_text writes.
#include "parallel/plan/instruction.h"

#include <charconv>
#include <string_view>

#include "kernels/base/error.h"

namespace longtake {

namespace {

std::string text(const Features& f) {
  return fmt::format("{}(b{} s{})", name(f.edge), f.block.value, f.step.value);
}

// The third number of a message is a version for latents, a step otherwise.
std::string message_text(const char* verb, Payload payload, BlockId block, StepId step,
                         const char* preposition, RankId peer) {
  return fmt::format("{} {} b{} {}{} {} r{}", verb, name(payload), block.value,
                     payload == Payload::latent ? 'v' : 's', step.value, preposition, peer.value);
}

struct Writer {
  std::string operator()(const Admit& i) const { return fmt::format("admit b{}", i.block.value); }
  std::string operator()(const Recall& i) const {
    return fmt::format("recall b{} v{}", i.latent.block.value, i.latent.version.value);
  }
  std::string operator()(const Embed& i) const {
    std::string out = fmt::format("embed b{} s{}", i.block.value, i.step.value);
    if (i.prefix)
      out += fmt::format(" prefix b{} v{}", i.prefix->block.value, i.prefix->version.value);
    return out;
  }
  std::string operator()(const Recv& i) const {
    return message_text("recv", i.payload, i.block, i.step, "from", i.from);
  }
  std::string operator()(const Send& i) const {
    return message_text("send", i.payload, i.block, i.step, "to", i.to);
  }
  std::string operator()(const Forward& i) const {
    std::string out = fmt::format("forward b{} s{}", i.block.value, i.step.value);
    if (i.prefix_tokens) out += " prefix tokens";
    if (i.prefix) out += " prefix " + text(*i.prefix);
    if (i.suffix) out += " suffix " + text(*i.suffix);
    if (i.publish_head || i.publish_tail) out += " publish";
    if (i.publish_head) out += " head";
    if (i.publish_tail) out += " tail";
    return out;
  }
  std::string operator()(const Head& i) const {
    return fmt::format("head b{} s{}", i.block.value, i.step.value);
  }
  std::string operator()(const SolverStep& i) const {
    return fmt::format("solve b{} s{}", i.block.value, i.step.value);
  }
  std::string operator()(const Emit& i) const { return fmt::format("emit b{}", i.block.value); }
  std::string operator()(const ReleaseFeatures& i) const { return "release " + text(i.features); }
  std::string operator()(const ReleaseLatent& i) const {
    return fmt::format("release latent b{} v{}", i.latent.block.value, i.latent.version.value);
  }
  std::string operator()(const ReleaseSolver& i) const {
    return fmt::format("release solver b{}", i.block.value);
  }
};

class Reader {
 public:
  explicit Reader(const std::string& line) : line_(line), rest_(line) {}

  Instruction instruction() {
    if (accept("admit ")) return Admit{id<BlockId>("b")};
    if (accept("recall ")) return Recall{latent()};
    if (accept("embed ")) return embed();
    if (accept("recv ")) return message<Recv>(" from r");
    if (accept("send ")) return message<Send>(" to r");
    if (accept("forward ")) return forward();
    if (accept("head ")) return visit<Head>();
    if (accept("solve ")) return visit<SolverStep>();
    if (accept("emit ")) return Emit{id<BlockId>("b")};
    if (accept("release latent ")) return ReleaseLatent{latent()};
    if (accept("release solver ")) return ReleaseSolver{id<BlockId>("b")};
    if (accept("release ")) return ReleaseFeatures{features()};
    refuse("the name of an instruction");
  }

 private:
  [[noreturn]] void refuse(const char* expected) const {
    fail(ExitCode::bad_data, "instruction `{}`: expected {}, found `{}`", line_, expected, rest_);
  }
  bool accept(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void expect(const char* word) {
    if (!accept(word)) refuse(word);
  }
  template <class AnyId>
  AnyId id(const char* before) {
    expect(before);
    AnyId out;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), out.value);
    if (error != std::errc()) refuse("a number");
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return out;
  }
  template <class Visit>
  Visit visit() {
    Visit out;
    out.block = id<BlockId>("b");
    out.step = id<StepId>(" s");
    return out;
  }
  Latent latent() {
    const BlockId block = id<BlockId>("b");
    return {block, id<StepId>(" v")};
  }
  Features features() {
    Features out;
    if (!accept("head(")) {
      expect("tail(");
      out.edge = Edge::tail;
    }
    out.block = id<BlockId>("b");
    out.step = id<StepId>(" s");
    expect(")");
    return out;
  }
  Embed embed() {
    Embed out = visit<Embed>();
    if (accept(" prefix ")) out.prefix = latent();
    return out;
  }
  Forward forward() {
    Forward out = visit<Forward>();
    out.prefix_tokens = accept(" prefix tokens");
    if (accept(" prefix ")) out.prefix = features();
    if (accept(" suffix ")) out.suffix = features();
    if (accept(" publish")) {
      out.publish_head = accept(" head");
      out.publish_tail = accept(" tail");
    }
    return out;
  }
  template <class Message>
  Message message(const char* before_peer) {
    const Payload payload = accept("tokens ")   ? Payload::tokens
                            : accept("latent ") ? Payload::latent
                            : accept("velocity ")
                                ? Payload::velocity
                                : (refuse("tokens, latent or velocity"), Payload::tokens);
    const BlockId block = id<BlockId>("b");
    const StepId step = id<StepId>(payload == Payload::latent ? " v" : " s");
    return Message{payload, block, step, id<RankId>(before_peer)};
  }

  const std::string& line_;
  std::string_view rest_;
};

}  // namespace

const char* name(Payload payload) {
  switch (payload) {
    case Payload::tokens:
      return "tokens";
    case Payload::latent:
      return "latent";
    case Payload::velocity:
      return "velocity";
  }
  return "?";
}

std::vector<Features> Forward::reads() const {
  std::vector<Features> out;
  if (prefix) out.push_back(*prefix);
  if (suffix) out.push_back(*suffix);
  return out;
}

std::vector<Features> Forward::writes() const {
  std::vector<Features> out;
  if (publish_head) out.push_back({Edge::head, block, step});
  if (publish_tail) out.push_back({Edge::tail, block, step});
  return out;
}

const char* name(Edge edge) {
  return edge == Edge::head ? "head" : "tail";
}

std::string to_text(const Instruction& instruction) {
  return std::visit(Writer{}, instruction);
}

Instruction parse_instruction(const std::string& line) {
  const Instruction out = Reader(line).instruction();
  const std::string canonical = to_text(out);
  if (canonical != line)
    fail(ExitCode::bad_data, "instruction `{}`: expected `{}` and nothing else", line, canonical);
  return out;
}

}  // namespace longtake
