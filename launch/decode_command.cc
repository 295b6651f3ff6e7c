// `longtake decode`: pictures from the latent stream of a run, finished or not.
#include <algorithm>

#include "launch/commands.h"
#include "launch/config_file.h"
#include "launch/log.h"
#include "launch/machine.h"
#include "launch/progress.h"
#include "launch/work_device.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/video_output.h"

namespace longtake {

namespace {

// Video frames that the committed latents give.
int64_t available_frames(const LatentReader& reader, const VaeConfig& vae) {
  return reader.frames() == 0 ? 0 : (reader.frames() - 1) * vae.temporal_factor + 1;
}

VideoTarget target_of(const DecodeOptions& options, const LatentReader& reader,
                      const VaeConfig& vae) {
  const int64_t available = available_frames(reader, vae);
  if (available == 0)
    fail(ExitCode::missing_input, "{}: no block is finished yet", options.run.string());
  VideoTarget target;
  target.video = options.output.empty() ? options.run / "video.mp4" : options.output;
  if (options.output.empty()) target.preview = options.run / "preview.png";
  target.fps = reader.identity().fps;
  target.begin = options.begin;
  target.end = options.end.value_or(available);
  if (target.begin < 0 || target.begin >= target.end || target.end > available)
    fail(ExitCode::usage, "--frames {}:{}: {} has the frames 0:{}", target.begin, target.end,
         options.run.string(), available);
  return target;
}

// The model folder that the run was made with, as its configuration says.
std::filesystem::path model_of(const RunIdentity& identity) {
  RunConfig config;
  Problems problems;
  read_config_text(identity.configuration, "RUN.json", {}, config, problems);
  problems.report();
  return config.model;
}

}  // namespace

int run_decode(const DecodeOptions& options) {
  const LatentReader reader(options.run);
  const std::filesystem::path model =
      options.model.empty() ? model_of(reader.identity()) : options.model;
  const ModelFolder folder = read_model_folder(model);
  const VaeConfig vae = folder.vae_config.value_or(VaeConfig{});
  const RunIdentity& id = reader.identity();
  if (vae.z_dim != id.channels)
    fail(ExitCode::usage, "{} has latents of {} channels, the VAE of {} decodes {}",
         options.run.string(), id.channels, model.string(), vae.z_dim);
  VideoTarget target = target_of(options, reader, vae);
  target.tile = choose_vae_tile(options.vae_tiles, vae, id.height, id.width);
  ThreadPool pool(choose_threads(options.threads));
  const DeviceChoice chosen = choose_device(options.device);
  target.compute = choose_precision(options.precision, chosen);
  WorkDevice device(chosen, 0, pool);
  const StreamRef stream = device.stream();
  VideoOutput video(
      folder, target, id.height * vae.spatial_factor, id.width * vae.spatial_factor,
      [](const std::string& notice) { log_warning("{}", notice); }, stream);
  Progress progress(options.progress);
  ProgressState state;
  state.total_blocks = static_cast<int64_t>(reader.blocks().size());
  state.total_frames = target.end - target.begin;
  for (size_t block = 0; block < reader.blocks().size() && video.frames() < state.total_frames;
       ++block) {
    const OwnedTensor latents = reader.read(block);
    for (int64_t t = 0; t < latents.dim(0); t += video.at_once()) {
      const int64_t end = std::min(latents.dim(0), t + video.at_once());
      video.push(latents.view().rows(t, end), stream);
      state.frames = video.frames();
      state.blocks = static_cast<int64_t>(block) + (end == latents.dim(0) ? 1 : 0);
      progress.update(state);
    }
  }
  video.close();
  progress.finish();
  log_info("{} frames in {}", video.frames(), target.video.string());
  return static_cast<int>(ExitCode::done);
}

}  // namespace longtake
