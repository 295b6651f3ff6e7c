// `longtake resume`: goes on with a run as its description says.
#include "launch/commands.h"
#include "launch/config_file.h"
#include "runtime/stream/latent_reader.h"

namespace longtake {

RunConfig config_of_run(const std::filesystem::path& run, bool longer, Problems& problems) {
  const LatentReader reader(run);
  if (reader.ended() && !longer)
    fail(ExitCode::usage,
         "{} is finished; `longtake decode` makes its video again, --num-frames with more than {} "
         "frames makes it longer",
         run.string(), reader.identity().video_frames);
  RunConfig config;
  read_config_text(reader.identity().configuration, (run / "RUN.json").string(), {}, config,
                   problems);
  config.output.run = run;
  config.parallel = {};  // of the ranks that are there now, not of those that were
  return config;
}

}  // namespace longtake
