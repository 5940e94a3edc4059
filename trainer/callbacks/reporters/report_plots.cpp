#include <tendril/trainer/callbacks/reporters/report_plots.h>

#include <algorithm>
#include <array>

namespace tendril {
namespace {

// The groups in the order of the page. metric and other get a plot per key, since their scales
// differ.
enum class Group { loss, metric, learning_rate, gradient_norm, tokens, steps, memory, other, none };

constexpr std::array kTitles = {"Loss",
                                "",
                                "Learning rate",
                                "Gradient norm",
                                "Throughput (tokens per second)",
                                "Throughput (steps per second)",
                                "Memory (bytes)",
                                ""};

Group group_of(const std::string& key) {
  const bool evaluated = key.starts_with("eval_") || key.starts_with("test_");
  if (key == kStepsPerSecond) return Group::steps;
  if (key == "train_tokens_per_second") return Group::tokens;
  if (key.find("_mem_") != std::string::npos) return Group::memory;
  if (key.ends_with("_per_second") || key.ends_with("_runtime")) return Group::none;
  // One number of the whole run each, or counters.
  for (const char* counter : {"step", "epoch", "train_loss", "total_flos", "num_input_tokens_seen"})
    if (key == counter) return Group::none;
  if (key == "loss" || (evaluated && key.ends_with("loss"))) return Group::loss;
  if (evaluated) return key.ends_with("_epoch") ? Group::none : Group::metric;
  if (key.starts_with("learning_rate")) return Group::learning_rate;
  return key == "grad_norm" ? Group::gradient_norm : Group::other;
}

}  // namespace

std::vector<Plot> report_plots(const std::vector<PlotSeries>& logged) {
  std::vector<Plot> plots;
  for (size_t group = 0; group < kTitles.size(); ++group) {
    const bool together = kTitles[group][0] != '\0';
    Plot shared{kTitles[group], {}};
    for (const PlotSeries& series : logged) {
      if (series.points.empty() || group_of(series.name) != static_cast<Group>(group)) continue;
      if (together)
        shared.series.push_back(series);
      else
        plots.push_back({series.name, {series}});
    }
    if (!shared.series.empty()) plots.push_back(std::move(shared));
  }
  return plots;
}

}  // namespace tendril
