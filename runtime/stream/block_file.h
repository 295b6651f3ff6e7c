// One finished block as an immutable HDF5 file, and the view over all of them. Measured on
// HDF5 1.10.8: every way of growing one file in place loses data at some kill point; a file per
// block loses none.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/tensor.h"
#include "runtime/stream/commit_log.h"
#include "runtime/stream/run_identity.h"

namespace longtake {

// f32 [channels, frames, height, width] -> [frames, channels, height, width], as latents are
// stored.
OwnedTensor time_first(ConstTensor latents);

// Writes `path`, which must not exist. latents: f32 [frames, channels, height, width], dense.
void write_block_file(const std::filesystem::path& path, const CommittedBlock& block,
                      const std::string& version, ConstTensor latents);

// Reads a file whose hash has been checked. Anything but the layout written above is bad data.
OwnedTensor read_block_file(const std::filesystem::path& path, const CommittedBlock& block,
                            const RunIdentity& identity);

// stream.h5: `/latents` as a virtual data set over the block files, for h5py and other readers. It
// is a view: it can be made again from COMMIT at any time, and longtake itself never reads it.
void write_stream_view(const std::filesystem::path& path, const RunIdentity& identity,
                       const std::vector<CommittedBlock>& blocks);

}  // namespace longtake
