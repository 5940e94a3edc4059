#include <tendril/trainer/callbacks/reporters/svg_plot.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <tendril/trainer/callbacks/log_row.h>

namespace tendril {
namespace {

// The picture in its own units, and the field inside of the axes.
constexpr double kPlotWidth = 640, kPlotHeight = 260;
constexpr double kLeft = 64, kRight = 628, kTop = 12, kBottom = 228;
constexpr size_t kPointsPerSeries = 400;
// Few points are shown as dots; of many the line is enough, and a dot appears under the pointer.
constexpr size_t kVisibleDots = 40;

struct Range {
  // Beyond this a range would be infinitely long.
  static constexpr double kLimit = 1e300;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void take(double value) {
    low = std::min(low, std::clamp(value, -kLimit, kLimit));
    high = std::max(high, std::clamp(value, -kLimit, kLimit));
  }
  double place(double value, double at_low, double at_high) const {
    return at_low + (std::clamp(value, low, high) - low) / (high - low) * (at_high - at_low);
  }
};

struct Axes {
  Range x, y;
};

// A range of no length gets one; values get a little air above and below.
Axes axes_of(const Plot& plot) {
  Axes axes;
  for (const PlotSeries& series : plot.series)
    for (const PlotPoint& point : series.points) {
      axes.x.take(point.step);
      axes.y.take(point.value);
    }
  if (axes.x.low == axes.x.high) axes.x = {axes.x.low - 1, axes.x.high + 1};
  const double length = axes.y.high - axes.y.low;
  const double air = length > 0 ? 0.05 * length : std::max(0.1 * std::abs(axes.y.low), 1e-9);
  axes.y = {axes.y.low - air, axes.y.high + air};
  return axes;
}

// About five round numbers inside of the range: multiples of 1, 2 or 5 times a power of ten.
std::vector<double> ticks(const Range& range) {
  const double rough = (range.high - range.low) / 6;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double distance = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0})
    if (rough <= factor * power) {
      distance = factor * power;
      break;
    }
  std::vector<double> result;
  const auto first = static_cast<int64_t>(std::ceil(range.low / distance));
  const auto last = static_cast<int64_t>(std::floor(range.high / distance));
  // Multiples of a fraction pick up rounding errors, which eight digits hide.
  for (int64_t i = first; i <= last; ++i) result.push_back(static_cast<double>(i) * distance);
  return result;
}

// A coordinate in tenths, whatever the locale.
std::string coordinate(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 1).ptr};
}

std::string grid(const Axes& axes) {
  std::string svg = "<g class=\"grid\">\n";
  for (const double value : ticks(axes.y)) {
    const std::string y = coordinate(axes.y.place(value, kBottom, kTop));
    svg += "<line x1=\"" + coordinate(kLeft) + "\" x2=\"" + coordinate(kRight) + "\" y1=\"" + y +
           "\" y2=\"" + y + "\"/><text class=\"y\" x=\"" + coordinate(kLeft - 8) + "\" y=\"" + y +
           "\">" + short_number(value, 8) + "</text>\n";
  }
  for (const double value : ticks(axes.x)) {
    if (value != std::floor(value)) continue;  // there are no half steps
    svg += "<text class=\"x\" x=\"" + coordinate(axes.x.place(value, kLeft, kRight)) + "\" y=\"" +
           coordinate(kBottom + 20) + "\">" + short_number(value, 8) + "</text>\n";
  }
  return svg + "</g>\n";
}

std::string color_of(size_t index) {
  return "var(--series-" + std::to_string(index % kPlotColors + 1) + ")";
}

std::string line_and_dots(const PlotSeries& series, size_t index, const Axes& axes) {
  const std::vector<PlotPoint> points = decimated(series.points, kPointsPerSeries);
  const std::string color = color_of(index);
  std::string path, dots;
  for (const PlotPoint& point : points) {
    const std::string x = coordinate(axes.x.place(point.step, kLeft, kRight));
    const std::string y = coordinate(axes.y.place(point.value, kBottom, kTop));
    path += (path.empty() ? "M" : "L") + x + " " + y;
    dots += "<circle cx=\"" + x + "\" cy=\"" + y + "\" r=\"3\"><title>" +
            html_escaped(series.name) + ", step " + short_number(point.step, 15) + ": " +
            short_number(point.value, 6) + "</title></circle>\n";
  }
  const char* kind = points.size() > kVisibleDots ? "dots hidden" : "dots";
  return "<path class=\"line\" stroke=\"" + color + "\" d=\"" + path + "\"/>\n<g class=\"" + kind +
         "\" fill=\"" + color + "\">\n" + dots + "</g>\n";
}

std::string legend(const Plot& plot) {
  if (plot.series.size() < 2) return "";
  std::string html = "<div class=\"legend\">";
  for (size_t i = 0; i < plot.series.size(); ++i)
    html += "<span><i style=\"background:" + color_of(i) + "\"></i>" +
            html_escaped(plot.series[i].name) + "</span>";
  return html + "</div>\n";
}

}  // namespace

std::vector<PlotPoint> decimated(const std::vector<PlotPoint>& points, size_t limit) {
  if (points.size() <= limit) return points;
  const size_t stretches = limit / 2;
  const auto lower = [](const PlotPoint& a, const PlotPoint& b) { return a.value < b.value; };
  std::vector<PlotPoint> result;
  for (size_t i = 0; i < stretches; ++i) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(i * points.size() / stretches);
    const auto end =
        points.begin() + static_cast<std::ptrdiff_t>((i + 1) * points.size() / stretches);
    auto [first, second] = std::minmax_element(begin, end, lower);
    if (second < first) std::swap(first, second);
    result.push_back(*first);
    if (second != first) result.push_back(*second);
  }
  return result;
}

std::string svg_plot(const Plot& plot) {
  const Axes axes = axes_of(plot);
  const std::string title = html_escaped(plot.title);
  std::string html = "<figure>\n<figcaption>" + title + "</figcaption>\n" + legend(plot) +
                     "<svg viewBox=\"0 0 " + short_number(kPlotWidth) + " " +
                     short_number(kPlotHeight) + "\" role=\"img\" aria-label=\"" + title +
                     " by step\">\n" + grid(axes);
  for (size_t i = 0; i < plot.series.size(); ++i) html += line_and_dots(plot.series[i], i, axes);
  return html + "</svg>\n</figure>\n";
}

std::string html_escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace tendril
