// seams MODEL PICTURE.svg JSON RULE=RUN[,RUN...] ...: how visible block borders are. Decodes the
// latents of finished runs and compares the mean absolute difference of neighbouring frames at
// block borders with the one elsewhere; draws it around the border. A latent frame becomes four
// video frames, over which the causal VAE spreads a jump: the border is the four steps into and
// through the first latent frame of a block. The first of them alone is printed beside it: it says
// little, since such steps are unlike the other three everywhere. seams.sh makes the runs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "runtime/model/model_config.h"
#include "runtime/model/vae_decoder.h"
#include "runtime/stream/latent_reader.h"

namespace longtake {

namespace {

constexpr int kReach = 8;  // frame steps before and after a border in the picture

struct Seams {
  double border = 0, first = 0, elsewhere = 0;                        // sums over runs of means
  std::vector<double> around = std::vector<double>(2 * kReach, 0.0);  // over the run's mean
  int runs = 0;
  double worst = 0;
};

// Mean absolute difference of each frame and the next.
std::vector<double> frame_steps(const LatentReader& reader, VaeDecoder& vae, StreamRef stream) {
  std::vector<double> out;
  std::vector<float> last;
  vae.reset();
  const auto sink = [&](ConstTensor frame) {
    const float* now = frame.as<float>();
    const auto count = static_cast<size_t>(frame.numel());
    double sum = 0;
    for (size_t i = 0; i < count && !last.empty(); ++i)
      sum += std::abs(static_cast<double>(now[i]) - last[i]);
    if (!last.empty()) out.push_back(sum / static_cast<double>(count));
    last.assign(now, now + count);
  };
  for (size_t block = 0; block < reader.blocks().size(); ++block) {
    const OwnedTensor latents = reader.read(block);
    for (int64_t t = 0; t < latents.dim(0); ++t)
      vae.decode(
          latents.view().rows(t, t + 1).reshape({latents.dim(1), latents.dim(2), latents.dim(3)}),
          sink, stream);
  }
  return out;
}

// For each border the step from one block's last frame to the next one's first.
std::vector<size_t> border_steps(const LatentReader& reader, int64_t factor) {
  std::vector<size_t> out;
  int64_t latent = 0;
  for (size_t block = 0; block + 1 < reader.blocks().size(); ++block) {
    latent += reader.blocks()[block].frames;
    out.push_back(static_cast<size_t>((latent - 1) * factor));
  }
  return out;
}

void add_run(Seams& seams, const std::vector<double>& steps, const std::vector<size_t>& borders,
             size_t factor) {
  double at = 0, all = 0, first = 0;
  for (const double step : steps) all += step;
  for (const size_t border : borders) {
    first += steps.at(border);
    for (size_t i = 0; i < factor; ++i) at += steps.at(border + i);
  }
  const size_t count = borders.size() * factor;
  const double here = at / static_cast<double>(count);
  const double elsewhere = (all - at) / static_cast<double>(steps.size() - count);
  seams.border += here;
  seams.first += first / static_cast<double>(borders.size());
  seams.elsewhere += elsewhere;
  seams.worst = std::max(seams.worst, here / elsewhere);
  ++seams.runs;
  for (int offset = -kReach; offset < kReach; ++offset) {
    double sum = 0;
    int count = 0;
    for (const size_t border : borders) {
      const auto i = static_cast<int64_t>(border) + offset;
      if (i < 0 || i >= static_cast<int64_t>(steps.size())) continue;
      sum += steps[static_cast<size_t>(i)];
      ++count;
    }
    const double mean = all / static_cast<double>(steps.size());
    seams.around[static_cast<size_t>(offset + kReach)] += sum / std::max(1, count) / mean;
  }
}

std::string picture(const std::map<std::string, Seams>& rules) {
  constexpr const char* kColours[] = {"#1f6fb4", "#2a9d4a", "#d1742f", "#b4323c"};
  constexpr double kLeft = 60, kTop = 24, kWide = 560, kHigh = 220;
  double most = 1.2;
  for (const auto& [rule, seams] : rules)
    for (const double y : seams.around) most = std::max(most, y / seams.runs);
  most *= 1.05;
  const auto x_of = [&](int i) { return kLeft + kWide * i / (2 * kReach - 1); };
  const auto y_of = [&](double y) { return kTop + kHigh * (1 - y / most); };
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 300\" font-family=\""
         "sans-serif\" font-size=\"12\">\n<rect width=\"780\" height=\"300\" fill=\"white\"/>\n";
  for (double y = 0; y <= most; y += 0.5)
    out << "<path d=\"M" << kLeft << " " << y_of(y) << "h" << kWide
        << "\" stroke=\"#ddd\"/><text x=\"30\" y=\"" << y_of(y) + 4 << "\">" << y << "</text>\n";
  out << "<path d=\"M" << x_of(kReach) << " " << kTop << "v" << kHigh
      << "\" stroke=\"#888\" stroke-dasharray=\"4 3\"/><text x=\"" << x_of(kReach) - 38 << "\" y=\""
      << kTop - 8 << "\">block border</text>\n";
  size_t row = 0;
  for (const auto& [rule, seams] : rules) {
    const char* colour = kColours[row % std::size(kColours)];
    out << "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" << colour << "\" points=\"";
    for (int i = 0; i < 2 * kReach; ++i)
      out << x_of(i) << "," << y_of(seams.around[static_cast<size_t>(i)] / seams.runs) << " ";
    out << "\"/>\n<text x=\"640\" y=\"" << kTop + 20 + 20 * static_cast<double>(row) << "\" fill=\""
        << colour << "\">" << rule << fmt::format(" {:.2f}", seams.border / seams.elsewhere)
        << "</text>\n";
    ++row;
  }
  out << "<text x=\"" << kLeft
      << "\" y=\"275\">change from one frame to the next over its mean in the video, by steps "
         "from a block border</text>\n</svg>\n";
  return out.str();
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) fail(ExitCode::io, "cannot write {}", path);
}

int run(int argc, char** argv) {
  if (argc < 5) fail(ExitCode::usage, "seams MODEL PICTURE.svg JSON RULE=RUN[,RUN...] ...");
  const ModelFolder folder = read_model_folder(argv[1]);
  if (!folder.vae_config) fail(ExitCode::missing_input, "{}: no VAE", argv[1]);
  ThreadPool pool(1);
  const StreamRef stream(pool);
  VaeDecoder vae(Weights(folder.vae, WeightsOf::vae), *folder.vae_config, DType::f32, stream);
  std::map<std::string, Seams> rules;
  for (int i = 4; i < argc; ++i) {
    const std::string text = argv[i];
    const size_t equals = text.find('=');
    if (equals == std::string::npos) fail(ExitCode::usage, "expected RULE=RUN, found {}", text);
    std::istringstream runs(text.substr(equals + 1));
    for (std::string path; std::getline(runs, path, ',');) {
      const LatentReader reader(path);
      if (!reader.complete() || reader.blocks().size() < 2)
        fail(ExitCode::bad_data, "{}: not finished, or only one block", path);
      add_run(rules[text.substr(0, equals)], frame_steps(reader, vae, stream),
              border_steps(reader, folder.vae_config->temporal_factor),
              static_cast<size_t>(folder.vae_config->temporal_factor));
    }
  }
  nlohmann::ordered_json rows = nlohmann::json::array();
  std::printf("rule        runs   border/elsewhere   worst run   first step only\n");
  for (const auto& [rule, seams] : rules) {
    const double ratio = seams.border / seams.elsewhere;
    const double first = seams.first / seams.elsewhere;
    std::printf("%-10s %5d %18.3f %11.3f %17.3f\n", rule.c_str(), seams.runs, ratio, seams.worst,
                first);
    rows.push_back({{"rule", rule},
                    {"runs", seams.runs},
                    {"ratio", ratio},
                    {"worst", seams.worst},
                    {"first_step", first}});
  }
  write(argv[2], picture(rules));
  write(argv[3], nlohmann::ordered_json{{"name", "seams"}, {"rows", rows}}.dump(1) + "\n");
  return 0;
}

}  // namespace

}  // namespace longtake

int main(int argc, char** argv) {
  try {
    return longtake::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "seams: %s\n", e.what());
    return 1;
  }
}
