// Which logged number belongs into which plot of a report.
#pragma once

#include <vector>

#include <tendril/trainer/callbacks/reporters/svg_plot.h>

namespace tendril {

/// The plots of a run, out of one series per logged key: losses of training and evaluation
/// together, each metric, learning rate, gradient norm, throughput, memory, and what else was
/// logged. Counters and times, which say nothing as a curve, are left out.
TENDRIL_API std::vector<Plot> report_plots(const std::vector<PlotSeries>& logged);

/// Steps per second as the report itself measures them; not a key that the Trainer logs.
inline constexpr const char* kStepsPerSecond = "steps_per_second";

}  // namespace tendril
