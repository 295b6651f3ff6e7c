#include "runtime/stream/commit_log.h"

#include <zlib.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/base/error.h"
#include "runtime/stream/sha256.h"

namespace longtake {

namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kCrcDigits = 8;
constexpr int64_t kMostFrames = int64_t{1} << 32;

std::string crc_text(std::string_view body) {
  const uLong crc = crc32(crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(body.data()),
                          static_cast<uInt>(body.size()));
  return fmt::format("{:08x}", crc);
}

Json json_of(const CommittedState& state) {
  Json files = Json::array();
  for (const StateFile& f : state.files)
    files.push_back({{"file", f.file}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  return {{"sweep", state.sweep}, {"files", files}};
}

Json json_of(const Extension& e) {
  Json prompts = Json::array();
  for (const PromptAt& p : e.prompts) prompts.push_back({{"frame", p.frame}, {"text", p.text}});
  return {{"first_block", e.first_block},
          {"finished_frames", e.finished_frames},
          {"frames", e.frames},
          {"video_frames", e.video_frames},
          {"prompts", prompts},
          {"fingerprint", e.fingerprint},
          {"configuration", e.configuration}};
}

std::string body_of(const CommitRecord& record) {
  Json blocks = Json::array();
  for (const CommittedBlock& b : record.blocks) {
    blocks.push_back({{"i", b.index},
                      {"first_frame", b.first_frame},
                      {"frames", b.frames},
                      {"file", b.file},
                      {"bytes", b.bytes},
                      {"sha256", b.sha256}});
  }
  Json json = {{"seq", record.seq}, {"epoch", record.epoch}};
  if (record.extension) json["extension"] = json_of(*record.extension);
  json["blocks"] = blocks;
  if (record.state) json["state"] = json_of(*record.state);
  json["prev"] = record.prev;
  return json.dump();
}

const Json& member(const Json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (!json.is_object() || found == json.end())
    throw std::invalid_argument(fmt::format("there is no field `{}`", key));
  return *found;
}

int64_t integer(const Json& json, const char* key) {
  const Json& value = member(json, key);
  if (!value.is_number_integer())
    throw std::invalid_argument(
        fmt::format("field `{}`: expected a whole number, found {}", key, value.type_name()));
  return value.get<int64_t>();
}

std::string text(const Json& json, const char* key) {
  const Json& value = member(json, key);
  if (!value.is_string())
    throw std::invalid_argument(
        fmt::format("field `{}`: expected a text, found {}", key, value.type_name()));
  return value.get<std::string>();
}

const Json& list(const Json& json, const char* key) {
  const Json& value = member(json, key);
  if (!value.is_array())
    throw std::invalid_argument(
        fmt::format("field `{}`: expected a list, found {}", key, value.type_name()));
  return value;
}

CommittedState parse_state(const Json& json) {
  CommittedState state;
  state.sweep = integer(json, "sweep");
  for (const Json& f : list(json, "files"))
    state.files.push_back(
        {text(f, "file"), static_cast<uint64_t>(integer(f, "bytes")), text(f, "sha256")});
  return state;
}

Extension parse_extension(const Json& json) {
  Extension out;
  out.first_block = integer(json, "first_block");
  out.finished_frames = integer(json, "finished_frames");
  out.frames = integer(json, "frames");
  out.video_frames = integer(json, "video_frames");
  for (const Json& p : list(json, "prompts"))
    out.prompts.push_back({integer(p, "frame"), text(p, "text")});
  out.fingerprint = text(json, "fingerprint");
  out.configuration = text(json, "configuration");
  return out;
}

CommitRecord parse_body(std::string_view body) {
  const Json json = Json::parse(body);
  CommitRecord record;
  record.seq = integer(json, "seq");
  record.epoch = integer(json, "epoch");
  record.prev = text(json, "prev");
  for (const Json& b : list(json, "blocks"))
    record.blocks.push_back({integer(b, "i"), integer(b, "first_frame"), integer(b, "frames"),
                             text(b, "file"), static_cast<uint64_t>(integer(b, "bytes")),
                             text(b, "sha256")});
  if (json.contains("state")) record.state = parse_state(json["state"]);
  if (json.contains("extension")) record.extension = parse_extension(json["extension"]);
  return record;
}

// File names are made, never taken: a log cannot lead out of its run.
std::string check_state(const CommitRecord& record) {
  const CommittedState& state = *record.state;
  if (state.sweep < 1 || state.files.empty())
    return fmt::format("field `state`: before sweep {} in {} files", state.sweep,
                       state.files.size());
  for (size_t rank = 0; rank < state.files.size(); ++rank) {
    const std::string expected =
        state_file_name(record.epoch, state.sweep, static_cast<int64_t>(rank));
    if (state.files[rank].file != expected)
      return fmt::format("field `state`: expected file {}, found {}", expected,
                         state.files[rank].file);
  }
  return "";
}

// It begins where the log stands; whether the run was finished there, the reader knows.
std::string check_extension(const Extension& e, int64_t blocks, int64_t frames) {
  if (blocks == 0 || e.first_block != blocks || e.finished_frames != frames)
    return fmt::format(
        "field `extension`: it begins after {} blocks of {} latent frames, expected {} of {}",
        e.first_block, e.finished_frames, blocks, frames);
  if (e.frames <= frames || e.frames > kMostFrames || e.video_frames < 1)
    return fmt::format(
        "field `extension`: {} latent frames of {} video frames after {} latent frames", e.frames,
        e.video_frames, frames);
  return "";
}

// Continues what stands before? Empty, or what does not.
std::string check_chain(const CommitLog& log, const CommitRecord& record) {
  const int64_t seq = static_cast<int64_t>(log.records.size()) + 1;
  if (record.seq != seq) return fmt::format("field `seq`: expected {}, found {}", seq, record.seq);
  if (!log.records.empty() && record.epoch < log.records.back().epoch) {
    return fmt::format("field `epoch`: {} after {}", record.epoch, log.records.back().epoch);
  }
  if (record.prev != log.head) {
    return seq == 1 ? "field `prev`: it was written for another RUN.json"
                    : "field `prev`: it does not follow the line before";
  }
  int64_t index = static_cast<int64_t>(log.blocks.size());
  int64_t frame = log.blocks.empty() ? 0 : log.blocks.back().first_frame + log.blocks.back().frames;
  if (record.extension) {
    const std::string problem = check_extension(*record.extension, index, frame);
    if (!problem.empty()) return problem;
  }
  for (const CommittedBlock& b : record.blocks) {
    if (b.index != index || b.file != block_file_name(index)) {
      return fmt::format("field `blocks`: expected block {}, found block {} in `{}`", index,
                         b.index, b.file);
    }
    if (b.first_frame != frame || b.frames < 1 || b.frames > INT32_MAX) {
      return fmt::format(
          "field `blocks`: block {} covers {} frames from {}, expected a start at {}", index,
          b.frames, b.first_frame, frame);
    }
    ++index;
    frame += b.frames;
  }
  if (record.epoch < 1 && record.state)
    return fmt::format("field `epoch`: a state of epoch {}", record.epoch);
  return record.state ? check_state(record) : "";
}

// A line without its newline. The body must be what this program would write, letter by letter.
std::string parse_line(std::string_view line, const CommitLog& log, CommitRecord& record) {
  if (line.size() < kCrcDigits + 2) return "it is too short";
  const std::string_view body = line.substr(0, line.size() - kCrcDigits - 1);
  const std::string expected = crc_text(body);
  if (line.substr(body.size()) != " " + expected) {
    return fmt::format("its checksum should be {}, found `{}`", expected,
                       line.substr(line.size() - kCrcDigits));
  }
  try {
    record = parse_body(body);
    if (body_of(record) != body) return "it is not in canonical form";
  } catch (const std::exception& e) {
    return e.what();
  }
  return check_chain(log, record);
}

}  // namespace

void extend(RunIdentity& identity, const Extension& e) {
  identity.frames = e.frames;
  identity.video_frames = e.video_frames;
  identity.prompts = e.prompts;
  identity.fingerprint = e.fingerprint;
  identity.configuration = e.configuration;
}

Extension extension_to(const RunIdentity& id, int64_t first_block, int64_t finished_frames) {
  return {first_block, finished_frames, id.frames,       id.video_frames,
          id.prompts,  id.fingerprint,  id.configuration};
}

std::string block_file_name(int64_t index) {
  return fmt::format("out/b{:08d}.h5", index);
}

std::string state_file_name(int64_t epoch, int64_t sweep, int64_t rank) {
  return fmt::format("state/e{:04d}.s{:08d}.r{:04d}.h5", epoch, sweep, rank);
}

std::string commit_line(const CommitRecord& record) {
  const std::string body = body_of(record);
  return body + " " + crc_text(body) + "\n";
}

CommitLog parse_commit_log(std::string_view text, const std::string& anchor) {
  CommitLog log;
  log.head = anchor;
  while (log.valid_bytes < text.size()) {
    const std::string_view rest = text.substr(log.valid_bytes);
    const size_t end = rest.find('\n');
    CommitRecord record;
    log.newline = end != std::string_view::npos;
    log.problem = log.newline ? parse_line(rest.substr(0, end), log, record) : "it has no end";
    if (!log.problem.empty()) {
      log.problem = fmt::format("line {} does not hold: {}", log.records.size() + 1, log.problem);
      log.torn = !log.newline || end + 1 == rest.size();
      return log;
    }
    log.head = sha256_hex(rest.substr(0, end));
    log.blocks.insert(log.blocks.end(), record.blocks.begin(), record.blocks.end());
    if (record.extension) {
      log.extensions.push_back(*record.extension);
      log.states.clear();
    }
    if (record.state) log.states.push_back(*record.state);
    log.records.push_back(std::move(record));
    log.valid_bytes += end + 1;
  }
  return log;
}

}  // namespace longtake
