// Line plots as SVG that stands in an HTML page. Colours are the page's: var(--series-1) and so on.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

struct PlotPoint {
  double step = 0.0, value = 0.0;  // finite
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  // by step
};

struct Plot {
  std::string title;
  std::vector<PlotSeries> series;
};

/// Colours that the page's style must have; a seventh series takes the first again.
inline constexpr size_t kPlotColors = 6;

/// At most `limit` (even, at least 2) of the points: the lowest and the highest of each stretch, so
/// that spikes stay.
TENDRIL_API std::vector<PlotPoint> decimated(const std::vector<PlotPoint>& points, size_t limit);

/// A <figure> with axes, a legend where there are several series, and at each point a title "step
/// 500: 1.25" that browsers show under the pointer.
TENDRIL_API std::string svg_plot(const Plot& plot);

/// Text with &, <, > and quotes written as HTML wants them.
TENDRIL_API std::string html_escaped(std::string_view text);

}  // namespace tendril
