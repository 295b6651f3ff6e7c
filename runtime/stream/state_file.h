// The state of the block queue as HDF5 files, one of each rank: a data set of every part, with its
// dtype and first layer as attributes. Written once, read on any mesh.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/exec/queue_state.h"
#include "runtime/stream/latent_reader.h"

namespace longtake {

// Creates `path`, format V110; equal states, equal bytes.
void write_state_file(const std::filesystem::path& path, const QueueState& state);

// Empty when all files of the state have the size and SHA-256 of COMMIT, else what is wrong.
std::string check_state_files(const std::filesystem::path& run, const CommittedState& state);

// Where a run goes on: the newer of the last two states whose files hold.
struct StateChoice {
  std::optional<CommittedState> state;  // empty: from the start
  std::vector<std::string> lost;        // newer ones that do not hold, and why
};
StateChoice choose_state(const std::filesystem::path& run,
                         const std::vector<CommittedState>& states);
inline constexpr size_t kStatesKept = 2;

class StateFiles : public StateSource {
 public:
  // `reader` must live as long; the files were checked. Without files: finished() alone.
  StateFiles(const LatentReader& reader, const CommittedState& state);

  bool has(const std::string& name) const override { return parts_.contains(name); }
  void read_layers(const std::string& name, int64_t first_layer, Tensor to) const override;
  void read(const std::string& name, Tensor to) const override;
  OwnedTensor finished(int64_t first_frame, int64_t frames) const override;

 private:
  struct Part {
    std::filesystem::path file;
    int64_t first_layer = 0;
    std::vector<int64_t> dims;
    DType dtype = DType::f32;
  };
  void index(const std::filesystem::path& file);
  void read_rows(const Part& part, const std::string& name, int64_t begin, Tensor to) const;

  const LatentReader& reader_;
  std::multimap<std::string, Part> parts_;
};

}  // namespace longtake
